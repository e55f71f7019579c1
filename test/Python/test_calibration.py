"""Calibration: second moments against ONNX Runtime's tensors, whole runs, kills, bad data."""

import json
import signal
import subprocess
import time

import model_zoo as zoo
import numpy as np
import pytest
from conftest import BUILD, ROOT, SHARED

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

TOOL = BUILD / "bin" / "quench-interpret"
RECIPE = """\
name: test
description: feedback
rules:
  - role: embedding, head
    format: int<8, group = 32>
    optional: true
  - role: linear
    format: int<{bits}, group = 16, zero>
    quantizer: {quantizer}
"""


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return zoo.make_decoder("made-past", tmp_path_factory.mktemp("decoder"))[0]


def stored(name):
    if name.startswith("made"):
        return None
    if name in zoo.LARGE:
        return zoo.make_large(name, BUILD / "models", SHARED)
    path = SHARED / "models" / {**zoo.LANGUAGE_MODELS, **zoo.ENCODERS}[name]
    return path if path.exists() else None


def write_recipe(folder, quantizer="ldlq", bits=4):
    path = folder / f"{quantizer}{bits}.yaml"
    path.write_text(RECIPE.format(quantizer=quantizer, bits=bits))
    return path


def some_ids(folder, vocabulary, shape, seed=0):
    path = folder / "ids.npy"
    np.save(path, np.random.default_rng(seed).integers(1, vocabulary, shape))
    return path


def tapped(path, folder):
    """The model with the inputs of its products by constants as outputs; node -> tensor."""
    model = onnx.load(str(path))
    constants = {i.name for i in model.graph.initializer}
    taps = {n.name or n.output[0]: n.input[0] for n in model.graph.node
            if n.op_type == "MatMul" and n.input[1] in constants}
    present = {o.name for o in model.graph.output}
    for tensor in sorted(set(taps.values()) - present):
        model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    onnx.save(model, str(folder / "tapped.onnx"), save_as_external_data=True, location="tapped.data")
    return ort.InferenceSession(str(folder / "tapped.onnx")), taps


@pytest.mark.skipif(not TOOL.exists(), reason="build/bin/quench-interpret is not built")
@pytest.mark.parametrize("name", ["made-past", "stories260k", "minilm-14"])
def test_second_moments_are_those_of_onnx_runtime(name, decoder, tmp_path):
    path = decoder if name == "made-past" else stored(name)
    if path is None:
        pytest.skip("the model is not there")
    session, taps = tapped(path, tmp_path)
    data = some_ids(tmp_path, 50, (3, 24))
    done = subprocess.run([TOOL, path, "--moments", data, "--output-dir", tmp_path, "--context", "24"],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    want = {}
    for ids in np.load(data):
        values = zoo.feed(session, sequence=24)
        values["input_ids"] = ids[None]
        results = session.run(sorted(set(taps.values())), values)
        for tensor, x in zip(sorted(set(taps.values())), results):
            x = x.reshape(-1, x.shape[-1]).astype(np.float64)
            want[tensor] = want.get(tensor, 0) + x.T @ x
    compared = 0
    for node, tensor in taps.items():
        file = tmp_path / f"{node.replace('/', '_')}.npy"
        if not file.exists():
            continue
        got = np.load(file)
        assert np.array_equal(got, got.T)
        assert zoo.distance(got, want[tensor]) < 1e-4, node
        compared += 1
    assert compared >= 6 and compared >= len(taps) - 1  # a tied head may be no product of its own


def compile_command(model, recipe, data, cache, out, *options):
    return ["compile", model, "--recipe", recipe, "--calib", data, "--cache", cache, "-o", out, *options]


@pytest.mark.parametrize("activations", ["f32", "int8"])
def test_runs_end_to_end(decoder, quench_driver, tmp_path, activations):
    data = some_ids(tmp_path, 50, (8, 32))
    recipe = write_recipe(tmp_path, bits=3)
    recipe.write_text(f"activations: {activations}\n" + recipe.read_text())
    out, report = tmp_path / "m.so", tmp_path / "r.json"
    done = quench_driver(*compile_command(decoder, recipe, data, tmp_path / "cache", out, "--report", report))
    assert "note: the calibration data have 8 samples, 64 were asked for" in done.stderr
    assert report.exists()
    rounded = tmp_path / "rtn.so"
    quench_driver("compile", decoder, "--recipe", write_recipe(tmp_path, "rtn", 3), "-o", rounded)
    evaluate = ["--data", data, "--context", "32", "--reference", decoder, "--json"]
    kl = [json.loads(quench_driver("eval", model, *evaluate).stdout)["kl"] for model in (out, rounded)]
    assert kl[0] < kl[1]
    # The interpreter finds the same weights.
    done = quench_driver("eval", decoder, "--interpret", "--recipe", recipe, "--calib", data,
                         "--cache", tmp_path / "cache", *evaluate)
    assert json.loads(done.stdout)["kl"] == pytest.approx(kl[0], rel=1e-3)


@pytest.mark.parametrize("activations", ["f32", "int8"])
def test_outlier_columns(decoder, quench_driver, tmp_path, activations):
    """Columns with a second code, from calibration to the compiled file; the cache brings them back."""
    data = some_ids(tmp_path, 50, (8, 32))
    recipes = []
    for n, quantizer in enumerate(["gptq", "outliers<float<16>, gptq>"]):
        recipes.append(tmp_path / f"{n}.yaml")
        recipes[-1].write_text(f"name: o\nactivations: {activations}\nrules:\n  - role: linear\n    format: int<2, group = 32>\n"
                               f"    quantizer: {quantizer}\n")
    evaluate = ["--data", data, "--context", "32", "--reference", decoder, "--json"]
    kl, bits = [], []
    for recipe in recipes:
        out, report = tmp_path / "m.so", tmp_path / "r.json"
        quench_driver(*compile_command(decoder, recipe, data, tmp_path / "cache", out, "--report", report))
        first = out.read_bytes()
        quench_driver(*compile_command(decoder, recipe, data, tmp_path / "cache", out))
        assert out.read_bytes() == first
        kl.append(json.loads(quench_driver("eval", out, *evaluate).stdout)["kl"])
        bits.append({layer["name"]: layer for layer in json.loads(report.read_text())["weights"]})
    assert kl[1] < 0.8 * kl[0]
    done = quench_driver("eval", decoder, "--interpret", "--recipe", recipes[1], "--calib", data, "--cache", tmp_path / "cache", *evaluate)
    assert json.loads(done.stdout)["kl"] == pytest.approx(kl[1], rel=1e-3)
    done = quench_driver(*compile_command(decoder, recipes[1], data, tmp_path / "cache", tmp_path / "n.so", "--bits", "3"), ok=False)
    assert "outlier columns" in done.stderr
    counted = 0
    for name, layer in bits[1].items():
        if "outlier columns" in layer.get("note", "") and "no outlier" not in layer["note"]:
            n = int(layer["note"].split(" outlier columns")[0].split()[-1])
            before = bits[0][name]
            more = (layer["bits"] - before["bits"]) / (layer["rows"] * layer["cols"])
            assert more == pytest.approx((32 * n + 16 * n * layer["rows"]) / (layer["rows"] * layer["cols"]), rel=1e-6)
            counted += 1
    assert counted > 0


def test_two_sided(decoder, quench_driver, tmp_path):
    """Feedback between rows, too: the model's results are nearer to the float model's; gradients are taken once for all recipes."""
    data = some_ids(tmp_path, 50, (64, 32))
    evaluate = ["--data", data, "--context", "32", "--reference", decoder, "--json"]
    kl, moments = [], set()
    for quantizer in ["gptq", "gptq<two-sided>", "gptq<two-sided, cd = 1>"]:
        recipe, out = tmp_path / "r.yaml", tmp_path / "m.so"
        recipe.write_text(f"name: two\nactivations: f32\nrules:\n  - role: linear\n    format: int<3, group = 32>\n    quantizer: {quantizer}\n")
        quench_driver(*compile_command(decoder, recipe, data, tmp_path / "cache", out))
        moments |= {(p, p.stat().st_mtime_ns) for p in (tmp_path / "cache").glob("*.outputs")}
        kl.append(json.loads(quench_driver("eval", out, *evaluate).stdout)["kl"])
    assert max(kl[1:]) < 0.95 * kl[0], kl
    assert len(moments) == 1


def weight_files(cache):
    return {p.name: p.read_bytes() for p in cache.glob("*/*.weight")}


def test_threads_and_inputs(decoder, quench_driver, tmp_path):
    data = some_ids(tmp_path, 50, (6, 40))
    recipe = write_recipe(tmp_path)
    results = []
    for i, options in enumerate([["--threads", "1"], ["--threads", "3"], ["--calib-inputs", "float"]]):
        cache = tmp_path / f"cache{i}"
        quench_driver(*compile_command(decoder, recipe, data, cache, tmp_path / "m.so", *options))
        results.append(weight_files(cache))
    assert results[0] == results[1]
    # With float inputs the embedding is not needed here.
    assert results[2].keys() <= results[0].keys()
    assert any(results[0][name] != results[2][name] for name in results[2])


def test_a_kill_loses_nothing(decoder, quench_driver, tmp_path):
    data = some_ids(tmp_path, 50, (64, 128))
    recipe = write_recipe(tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    quench_driver(*compile_command(decoder, recipe, data, whole, tmp_path / "a.so"))
    command = [str(c) for c in compile_command(decoder, recipe, data, parts, tmp_path / "b.so", "--resume")]
    finished, kills = set(), 0
    for _ in range(6):
        process = subprocess.Popen([str(quench_driver.path), *command], stderr=subprocess.DEVNULL)
        # Killed as soon as there is one more weight.
        while process.poll() is None and len(weight_files(parts)) <= len(finished):
            time.sleep(0.002)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        now = set(weight_files(parts))
        assert finished <= now
        finished = now
    quench_driver(*command)
    assert kills > 1
    assert weight_files(parts) == weight_files(whole)
    assert not list(parts.glob("*/*.spill"))
    assert (tmp_path / "a.so").read_bytes() == (tmp_path / "b.so").read_bytes()


def test_messages(decoder, quench_driver, tmp_path):
    recipe = write_recipe(tmp_path)
    cache = tmp_path / "cache"
    out = tmp_path / "m.so"

    def message(data, *options, command=None):
        done = quench_driver(*(command or compile_command(decoder, recipe, data, cache, out, *options)), ok=False)
        assert done.returncode != 0 and not out.exists()
        return done.stderr

    assert "needs calibration data: give --calib FILE" in message(
        None, command=["compile", decoder, "--recipe", recipe, "-o", out])
    assert "token id 99999 at position 3 of sample 1 is outside of the model's vocabulary" in message(
        save(tmp_path, np.array([[1, 2, 3, 4], [1, 2, 3, 99999]])))
    assert "one token only" in message(save(tmp_path, np.full((4, 16), 7)))
    assert "token ids are integers" in message(save(tmp_path, np.full((4, 16), np.nan, np.float32)))
    assert "has no sample" in message(save(tmp_path, np.zeros((0, 16), np.int64)))
    assert "missing.npy" in message(tmp_path / "missing.npy")
    text = tmp_path / "text.txt"
    text.write_text("Too short.")
    if not (decoder.parent / "tokenizer.json").exists():
        assert "tokenizer.json" in message(text)
    tokenizer = ROOT / "test" / "Tools" / "Inputs" / "chain-tokenizer.json"
    assert "fewer than one window of 512; give a longer text or a shorter context" in message(text, "--tokenizer", tokenizer)
    assert "data.npy" in message(save(tmp_path, np.ones((2, 3, 4), np.int64)))  # of rank 3
    assert "quantized or float" in message(text, "--calib-inputs", "both")
    assert "--resume needs --calib" in message(None, command=["compile", decoder, "--resume", "-o", out])
    (tmp_path / "file").write_text("")
    assert "file" in message(save(tmp_path, np.arange(40)[None] + 1), "--cache", tmp_path / "file")


def save(folder, array):
    np.save(folder / "data.npy", array)
    return folder / "data.npy"


def test_sentences_of_an_encoder(quench_driver, tmp_path):
    path = stored("minilm-14")
    if path is None or not (path.parent / "tokenizer.json").exists():
        pytest.skip("the model is not there")
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("A man eats.\n\nThe sky is blue today.\nTwo dogs run along a beach.\n")
    done = quench_driver(*compile_command(path, write_recipe(tmp_path), sentences, tmp_path / "cache",
                                          tmp_path / "m.so", "--calib-samples", "2"))
    assert "fewer than the" in done.stderr
    assert len(weight_files(tmp_path / "cache")) >= 36
