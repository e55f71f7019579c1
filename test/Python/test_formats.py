"""Formats through the whole chain: codes that models bring stay; each format computes what numpy makes of its definition."""

import json

import model_zoo as zoo
import numpy as np
import pytest

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

SHARED = zoo.find_shared()
VECTORS = SHARED / "data" / "contrib-op-vectors"
CASES = sorted(p.name for p in VECTORS.glob("matmul*") if p.name.startswith(("matmulbnb4", "matmulnbits"))) \
    if VECTORS.is_dir() else []

NF4 = np.float32([-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
                  -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725,
                  0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
                  0.7229568362236023, 1])
E2M1 = np.float32([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def compiled(driver, folder, model, recipe):
    """Output of a model and its report."""
    driver("compile", model, "-o", folder / "m.so", "--recipe", recipe, "--report", folder / "m.json")
    return folder / "m.so", json.loads((folder / "m.json").read_text())


def run(driver, folder, binary, x):
    np.save(folder / "x.npy", x)
    driver("run", binary, "--input", folder / "x.npy", "--output-dir", folder / "out")
    (result,) = (folder / "out").glob("*.npy")
    return np.load(result)


@pytest.mark.parametrize("case", CASES)
def test_contributed_products(quench_driver, tmp_path, case):
    """Vectors of ONNX Runtime: the numbers stay, and with a recipe that asks for 4 bits, so do the codes."""
    x, want = np.load(VECTORS / case / "input_0.npy"), np.load(VECTORS / case / "output_0.npy")
    binary, _ = compiled(quench_driver, tmp_path, VECTORS / case / "model.onnx", "f32")
    limit = 0.02 if "accuracy4" in case else 1e-6  # there the runtime rounds the activations
    assert zoo.distance(run(quench_driver, tmp_path, binary, x), want) < limit
    binary, report = compiled(quench_driver, tmp_path, VECTORS / case / "model.onnx", "w4")
    assert zoo.distance(run(quench_driver, tmp_path, binary, x), want) < max(limit, 1e-3)  # scales become halves
    (layer,) = report["weights"]
    bits = next((b for b in (2, 8) if f"_{b}bit" in case), 4)
    kind = "nf4" if "nf4" in case else "bnb-fp4" if "bnb4" in case else f"int<{bits}"
    assert layer["format"].startswith(kind) or layer["format"].startswith("ternary")


def product(folder, weight, nodes, constants, width):
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "g", [make("x", 1, ["rows", width])], [make("y", 1, ["rows", weight])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()])
    onnx.save(onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)],
        ir_version=8), folder / "g.onnx")
    return folder / "g.onnx"


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("block", [16, 32, 128])
def test_bnb4_codes_stay(quench_driver, tmp_path, kind, block):
    """Scales that are halves: the very same numbers, in 4 bits."""
    rng = np.random.default_rng(block + kind)
    n, k = 48, 256
    constants = {"codes": rng.integers(0, 256, n * k // 2).astype(np.uint8),
                 "absmax": (rng.standard_normal(n * k // block) ** 2).astype(np.float16).astype(np.float32)}
    node = onnx.helper.make_node("MatMulBnb4", ["x", *constants], ["y"], domain="com.microsoft", K=k, N=n,
                                 block_size=block, quant_type=kind)
    model = product(tmp_path, n, [node], constants, k)
    x = rng.standard_normal((7, k)).astype(np.float32)
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {"x": x})
    binary, report = compiled(quench_driver, tmp_path, model, "w8")
    assert report["weights"][0]["bits"] == n * k * 4 + n * k // block * 16
    assert zoo.distance(run(quench_driver, tmp_path, binary, x), want) < 1e-6


def nearest(ratio, levels):
    """The nearest of sorted levels; ties do not occur in random numbers."""
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, ratio)]


def blocks(w, group):
    parts = w.reshape(w.shape[0], -1, group)
    return parts, np.abs(parts).max(axis=2, keepdims=True)


def mxfp4(w):
    parts, most = blocks(w, 32)
    scale = np.exp2(np.floor(np.log2(most)) - 2)
    return (scale * nearest(parts / scale, np.unique(np.r_[-E2M1, E2M1]))).reshape(w.shape)


def e4m3(code):
    e, m = code >> 3, code & 7
    return np.where(e == 0, m * 2.0 ** -9, (8 + m) * 2.0 ** (e - 10.0))


def nvfp4(w):
    parts, most = blocks(w, 16)
    whole = np.abs(w).max() / (6 * 448)
    scale = whole * nearest(most / 6 / whole, e4m3(np.arange(1, 127)))
    return (scale * nearest(parts / scale, np.unique(np.r_[-E2M1, E2M1]))).reshape(w.shape)


def fp8(w):
    levels = e4m3(np.arange(127))
    scale = np.float16(np.abs(w).max(axis=1, keepdims=True) / 448).astype(np.float64)
    return scale * nearest(w / scale, np.unique(np.r_[-levels, levels]))


def nf4(w):
    parts, most = blocks(w, 64)
    scale = np.float16(most).astype(np.float64)
    return (scale * nearest(parts / scale, NF4.astype(np.float64))).reshape(w.shape)


def float_zero(w):
    parts, _ = blocks(w, 32)
    low, high = parts.min(axis=2, keepdims=True), parts.max(axis=2, keepdims=True)
    scale = np.float16((high - low) / 15).astype(np.float64)
    zero = np.float16(-low / scale).astype(np.float64)
    return (scale * (np.clip(np.round(parts / scale + zero), 0, 15) - zero)).reshape(w.shape)


def binary(w):
    return np.sign(w) * np.abs(w).mean()


@pytest.mark.parametrize("spec,oracle", [("mxfp<4>", mxfp4), ("nvfp4", nvfp4), ("fp8<e4m3>", fp8),
                                         ("nf4<group = 64>", nf4), ("int<4, group = 32, zero = float>", float_zero),
                                         ("int<1, tensor>", binary)])
def test_formats_by_definition(quench_driver, tmp_path, spec, oracle):
    rng = np.random.default_rng(5)
    w = rng.standard_normal((256, 80)).astype(np.float32)
    model = product(tmp_path, 80, [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w}, 256)
    (tmp_path / "r.yaml").write_text(f"name: one\nrules:\n  - format: {spec}\n")
    x = rng.standard_normal((9, 256)).astype(np.float32)
    binary, report = compiled(quench_driver, tmp_path, model, tmp_path / "r.yaml")
    assert report["weights"][0]["format"] == spec
    want = x.astype(np.float64) @ oracle(w.T.astype(np.float64)).T
    # A value next to a threshold may fall to either side of it.
    assert zoo.distance(run(quench_driver, tmp_path, binary, x), want) < 1e-4


@pytest.mark.parametrize("spec,error", [("mxfp<6>", 1.3e-3), ("mxfp<6, e3m2>", 4e-3), ("mxfp<8>", 1.2e-3),
                                        ("fp8<e5m2, tensor>", 3e-3), ("nf4<group = 64, double>", 9e-3),
                                        ("af4<group = 64>", 1e-2), ("lut4<group = 64>", 9e-3),
                                        ("ternary<3, group = 96>", 0.2), ("ternary<5, tensor>", 0.2),
                                        ("trellis<2, code = 3inst>", 0.069), ("aqlm<1x12, group = 8>", 4e-4),
                                        ("vptq<1x12, rows = 4>", 0.02)])
@pytest.mark.parametrize("activations", ["f32", "int8"])
def test_formats_keep_the_error_of_a_gaussian(quench_driver, tmp_path, spec, error, activations):
    rng = np.random.default_rng(6)
    w = rng.standard_normal((192, 160)).astype(np.float32)
    model = product(tmp_path, 160, [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w}, 192)
    text = f"name: one\nrules:\n  - format: {spec}\n" + f"    activations: {activations}\n"
    (tmp_path / "r.yaml").write_text(text)
    x = rng.standard_normal((64, 192)).astype(np.float32)
    binary, _ = compiled(quench_driver, tmp_path, model, tmp_path / "r.yaml")
    want = x.astype(np.float64) @ w.astype(np.float64)
    got = run(quench_driver, tmp_path, binary, x)
    found = ((got - want) ** 2).mean() / (want ** 2).mean()
    assert found < 1.1 * error + (1e-4 if activations == "int8" else 0)
