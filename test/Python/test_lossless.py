"""Formats with coded exponents: nothing but the size of a file differs from the formats without the code."""

import json

import model_zoo as zoo
import numpy as np
import pytest

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

SHARED = zoo.find_shared()
STORED = SHARED / "models" / "llm-stories260k" / "model.onnx"


def bfloat(values):
    """The nearest bf16 numbers, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) & np.uint32(0xffff0000)).view(np.float32)


def bfloat_model(source, target):
    """The same model with weights that are bf16 numbers; returns these by shape."""
    model = onnx.load(source)
    weights = {}
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 2:
            weights[tensor.name] = bfloat(values)
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
    onnx.save(model, target)
    return weights


def compiled(driver, folder, model, spec, name):
    (folder / "r.yaml").write_text(f"name: one\nrules:\n  - format: {spec}\n")
    binary = folder / f"{name}.so"
    driver("compile", model, "-o", binary, "--recipe", folder / "r.yaml", "--report", folder / "m.json")
    return binary, json.loads((folder / "m.json").read_text())["weights"]


def logits(driver, folder, binary, values):
    arguments = []
    for name, value in values.items():
        np.save(folder / f"in.{name}.npy", value)
        arguments += ["--input", f"{name}={folder / f'in.{name}.npy'}"]
    driver("run", binary, *arguments, "--output", f"logits={folder / 'out.npy'}")
    return np.load(folder / "out.npy")


def entropy(weight):
    """Bits of an exponent of bf16 numbers."""
    counts = np.bincount(np.ascontiguousarray(weight).view(np.uint32).ravel() >> 23 & 255)
    p = counts[counts > 0] / weight.size
    return float(-(p * np.log2(p)).sum())


@pytest.mark.parametrize("name,coded,plain", [("made-plain", "dfloat11", "float<bf16>"),
                                              ("stories260k", "dfloat11", "float<bf16>"),
                                              ("made-plain", "ecf8", "fp8<e4m3>")])
def test_same_numbers(quench_driver, tmp_path, name, coded, plain):
    if name == "stories260k" and not STORED.exists():
        pytest.skip("no shared folder of models")
    source = STORED if name == "stories260k" else zoo.make_decoder(name, tmp_path / name)[0]
    bfloat_model(source, tmp_path / "b.onnx")
    session = ort.InferenceSession(str(tmp_path / "b.onnx"), providers=["CPUExecutionProvider"])
    a, coded_layers = compiled(quench_driver, tmp_path, tmp_path / "b.onnx", coded, "coded")
    b, plain_layers = compiled(quench_driver, tmp_path, tmp_path / "b.onnx", plain, "plain")
    for sequence in (1, 24):  # one row of activations, many
        values = zoo.feed(session, sequence=sequence)
        got = logits(quench_driver, tmp_path, a, values)
        assert got.tobytes() == logits(quench_driver, tmp_path, b, values).tobytes()
        if coded == "dfloat11":  # the model itself: only sums have another order
            (want,) = session.run(["logits"], values)
            assert zoo.distance(got, want) < 1e-5
    for layer, other in zip(coded_layers, plain_layers):
        assert layer["error"] == other["error"]
        assert coded != "dfloat11" or layer["error"] == 0
        assert 0.5 * other["bits"] < layer["bits"] < 8 * layer["bytes"]


def test_bits_are_those_of_the_entropy(quench_driver, tmp_path):
    """Weights that are stored in bf16, of two distributions: the report says what the file holds."""
    rng = np.random.default_rng(3)
    for draw, most in ((rng.standard_normal, 10.66), (lambda shape: rng.standard_t(3, shape), 10.95)):
        w = bfloat(0.02 * draw((512, 640)))
        make = onnx.helper.make_tensor_value_info
        halves = (w.view(np.uint32) >> 16).astype("<u2").tobytes()
        weight = onnx.helper.make_tensor("b", onnx.TensorProto.BFLOAT16, w.shape, halves, raw=True)
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Cast", ["b"], ["w"], to=1), onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g", [make("x", 1, ["rows", 512])], [make("y", 1, ["rows", 640])], [weight])
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
                  tmp_path / "g.onnx")
        _, (layer,) = compiled(quench_driver, tmp_path, tmp_path / "g.onnx", "dfloat11", "g")
        bits = layer["bits"] / w.size
        assert 8 + entropy(w) < bits < 8 + entropy(w) + 0.16
        assert bits < most
        assert layer["error"] == 0
