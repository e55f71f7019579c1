"""Code does not grow with the number of equal layers: they are one function, called in one loop.

What may grow is data: names and shapes of the inputs and outputs, a table of weights' places where they are not
regular (eight bytes a layer). With two layers LLVM makes one bit of the loop's counter, which takes a few bytes more.
"""

import re
import struct
import subprocess
import sys

import model_zoo as zoo
import numpy as np
import pytest
from conftest import ROOT

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def section_bytes(path):
    """Name -> size of the sections of a 64-bit little endian ELF file."""
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    at, = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, at + i * size) for i in range(count)]
    text = headers[names][4]

    def name(offset):
        return data[text + offset:data.index(b"\0", text + offset)].decode()

    return {name(h[0]): h[5] for h in headers}


def decoder(folder, layers, kind):
    subprocess.run([sys.executable, str(ROOT / "utils" / "make-decoder"), str(folder), "--layers", str(layers), "--kind", kind,
                    "--width", "64", "--hidden", "96", "--heads", "4", "--kv-heads", "2", "--vocabulary", "160",
                    "--context", "64"], check=True, capture_output=True)
    return folder / "model.onnx"


@pytest.mark.parametrize("kind", ["past", "plain"])
@pytest.mark.parametrize("recipe", ["f32", "w4a8"])
def test_code_of_equal_layers(quench_driver, tmp_path, kind, recipe):
    code = {}
    for layers in (2, 4, 8):
        source = decoder(tmp_path / str(layers), layers, kind)
        binary = tmp_path / f"{layers}.so"
        quench_driver("compile", source, "-o", binary, "--recipe", recipe, "--cpu", "x86-64-v3")
        code[layers] = section_bytes(binary)[".text"]
    assert code[4] == code[8]
    assert abs(code[2] - code[4]) <= 128 * (3 if kind == "past" else 1)  # main, decode, prefill
    # One more call for each layer would show.
    text = quench_driver("compile", source, "-o", "-", "--recipe", recipe, "--stop-after", "qk").stdout
    for name in re.findall(r"func.func private @(\w+_layer\d+)\(", text):
        assert len(re.findall(rf"call @{name}\(", text)) == 1, name


def test_irregular_places_come_from_a_table(quench_driver, tmp_path):
    """Layers that share weights in no regular way: the loop reads a table, and gives ONNX Runtime's numbers."""
    rng = np.random.default_rng(3)
    helper, width, order = onnx.helper, 8, [0, 1, 0, 2, 2, 1]
    weights = [rng.standard_normal((width, width)).astype(np.float32) for _ in range(3)]
    nodes, x = [], "x"
    for i, w in enumerate(order):
        nodes += [helper.make_node("MatMul", [x, f"w{w}"], [f"h{i}"]), helper.make_node("Relu", [f"h{i}"], [f"r{i}"]),
                  helper.make_node("Add", [x, f"r{i}"], [f"x{i}"])]
        x = f"x{i}"
    nodes.append(helper.make_node("MatMul", [x, "w0"], ["y"]))
    graph = helper.make_graph(
        nodes, "layers", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", width])],
        [onnx.numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    source = tmp_path / "m.onnx"
    source.write_bytes(model.SerializeToString())
    text = quench_driver("compile", source, "-o", "-", "--recipe", "f32", "--stop-after", "qk").stdout
    assert "memref.global" in text and len(re.findall(r"call @main_layer0\(", text)) == 1
    quench_driver("compile", source, "-o", tmp_path / "m.so", "--recipe", "f32")
    x = rng.standard_normal((5, width)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    quench_driver("run", tmp_path / "m.so", "--input", tmp_path / "x.npy", "--output", f"y={tmp_path / 'y.npy'}")
    want, = ort.InferenceSession(str(source), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    assert zoo.distance(np.load(tmp_path / "y.npy"), want) < 1e-5
