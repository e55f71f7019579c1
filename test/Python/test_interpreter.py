"""The reference interpreter computes what ONNX Runtime computes, for every stored model.

It is run through build/bin/quench-interpret, a development tool that imports a model and takes and gives .npy files.
"""

import subprocess

import model_zoo as zoo
import numpy as np
import pytest
from conftest import BUILD

ort = pytest.importorskip("onnxruntime")

SHARED = zoo.find_shared()
STORED = {**zoo.LANGUAGE_MODELS, **zoo.ENCODERS}
NAMES = zoo.MADE + ([*STORED, *zoo.LARGE] if (SHARED / "models").is_dir() else [])
TOOL = BUILD / "bin" / "quench-interpret"

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason="build/bin/quench-interpret is not built")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            if name in zoo.MADE:
                made[name], _ = zoo.make_decoder(name, tmp_path_factory.mktemp(name))
            elif name in zoo.LARGE:
                made[name] = zoo.make_large(name, BUILD / "models", SHARED)
            else:
                made[name] = SHARED / "models" / STORED[name]
        if made[name] is None:
            pytest.skip("the package that holds this model is not installed (utils/fetch-models)")
        return made[name]

    return get


def interpret(path, values, outputs, folder, *options, ok=True):
    folder.mkdir(exist_ok=True)
    arguments = [str(TOOL), str(path), "--output-dir", str(folder), *options]
    for i, (name, value) in enumerate(values.items()):
        np.save(folder / f"in{i}.npy", value)
        arguments += ["--input", f"{name}={folder / f'in{i}.npy'}"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=600)
    if not ok:
        return done
    assert done.returncode == 0, done.stderr
    return [np.load(folder / f"{name.replace('/', '_')}.npy") for name in outputs]


def session_of(name, path):
    """Graphs that round are compared without ONNX Runtime's fusions, which move roundings."""
    options = ort.SessionOptions()
    if name in zoo.ROUNDING:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in zoo.ROUNDING])
def test_agrees_with_onnx_runtime(name, model_path, tmp_path):
    path = model_path(name)
    session = session_of(name, path)
    outputs = [o.name for o in session.get_outputs()]
    has_past = any("past" in node.name for node in session.get_inputs())
    cases = [dict(sequence=9, seed=1), dict(sequence=5, batch=2, seed=2)]
    if has_past:
        # GroupQueryAttention of several sequences takes no past in ONNX Runtime.
        cases += [dict(sequence=1, past=6, seed=3)]
    for i, case in enumerate(cases):
        values = zoo.feed(session, **case)
        if has_past and case.get("past"):
            # Keys of a usual size: random ones saturate the softmax of thirty layers.
            values = {n: v * np.float32(0.3) if n.startswith("past") else v for n, v in values.items()}
        want = session.run(None, values)
        got = interpret(path, values, outputs, tmp_path / str(i))
        for output, a, b in zip(outputs, got, want):
            assert a.shape == b.shape, output
            assert zoo.distance(a, b) < 1e-4, (output, case)


@pytest.mark.parametrize("name", [n for n in NAMES if "use-lite" in n or "minilm" in n])
def test_padding(name, model_path, tmp_path):
    path = model_path(name)
    session = session_of(name, path)
    outputs = [o.name for o in session.get_outputs()]
    values = zoo.pad(zoo.feed(session, batch=2, sequence=8), "attention_mask", 3)
    for a, b in zip(interpret(path, values, outputs, tmp_path), session.run(None, values)):
        assert zoo.distance(a, b) < 1e-4


@pytest.mark.parametrize("name", [n for n in NAMES if n in zoo.ROUNDING])
def test_graphs_that_round(name, model_path, tmp_path):
    path = model_path(name)
    session = session_of(name, path)
    ids = np.load(SHARED / "models" / "llm-bitnet-shakespeare" / "eval_ids.npy")
    values = zoo.feed(session, batch=len(ids), sequence=ids.shape[1] - 1)
    values["input_ids"] = ids[:, :-1]
    want = session.run(["logits"], values)[0].astype(np.float64)
    got = interpret(path, values, ["logits"], tmp_path)[0].astype(np.float64)

    def loss(logits):
        shifted = logits - logits.max(-1, keepdims=True)
        log = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        return -np.take_along_axis(log, ids[:, 1:, None], -1).mean()

    assert abs(loss(got) - loss(want)) < 0.002
    assert (got.argmax(-1) == want.argmax(-1)).mean() > 0.99


def test_cached_steps_are_the_whole(model_path, tmp_path):
    """Tokens given one by one with a cache give the logits of all tokens at once."""
    path = model_path("made-past")
    session = session_of("made-past", path)
    outputs = [o.name for o in session.get_outputs()]
    whole = zoo.feed(session, sequence=6, seed=4)
    want = interpret(path, whole, outputs, tmp_path / "whole")[0]
    cache = {n: v for n, v in whole.items() if n.startswith("past")}
    presents = [o for o in outputs if o.startswith("present")]
    for step in range(6):
        values = zoo.feed(session, sequence=1, past=step)
        values["input_ids"] = whole["input_ids"][:, step:step + 1]
        values.update(cache)
        got = dict(zip(outputs, interpret(path, values, outputs, tmp_path / str(step))))
        assert zoo.distance(got["logits"][:, 0], want[:, step]) < 1e-5
        cache = {n.replace("present", "past_key_values"): got[n] for n in presents}


def test_recipes_against_numpy(model_path, tmp_path):
    """int8 weights and int8 activations: the head of a model of one layer, by hand."""
    module = tmp_path / "m.mlir"
    module.write_text("""
      quench.initializer @w source(dense<[[1.0, -0.5, 0.25, 0.1], [0.3, 0.2, -0.9, 0.7]]> : tensor<2x4xf32>) : tensor<2x4xf32>
      func.func @main(%x: tensor<?x4xf32> {quench.name = "x"}) -> (tensor<?x2xf32> {quench.name = "y"}) {
        %w = quench.weight @w : tensor<2x4xf32>
        %y = quench.linear %x, %w {role = "up"} : (tensor<?x4xf32>, tensor<2x4xf32>) -> tensor<?x2xf32>
        return %y : tensor<?x2xf32>
      }""")
    w = np.array([[1.0, -0.5, 0.25, 0.1], [0.3, 0.2, -0.9, 0.7]], np.float32)
    scale = (np.abs(w).max(1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
    w = np.clip(np.rint(w / scale), -127, 127) * scale
    x = np.random.default_rng(5).standard_normal((3, 4)).astype(np.float32)
    top = np.abs(x).max(1, keepdims=True)
    xq = np.clip(np.rint(x * (np.float32(127) / top)), -127, 127) * (top / np.float32(127))
    for recipe, left in (("w8", x), ("w8a8", xq)):
        got = interpret(module, {"x": x}, ["y"], tmp_path, "--recipe", recipe)[0]
        assert np.abs(got - left @ w.T).max() < 1e-6
    done = interpret(module, {"x": x}, ["y"], tmp_path, "--recipe", "no-such", ok=False)
    assert done.returncode == 1 and "no recipe 'no-such'" in done.stderr


def test_wrong_inputs(model_path, tmp_path):
    path = model_path("made-plain")
    ids = np.zeros((1, 4), np.int64)
    for values, message in (
        ({}, "input 0"),
        ({"input_ids": ids.astype(np.float32)}, "found f32[1,4]"),
        ({"input_ids": ids[0]}, "found i64[4]"),
        ({"input_ids": ids + 10**6}, "outside of the vocabulary"),
        ({"nothing": ids}, "no input for 'nothing="),
    ):
        done = interpret(path, values, [], tmp_path, ok=False)
        assert done.returncode == 1 and message in done.stderr, done.stderr
