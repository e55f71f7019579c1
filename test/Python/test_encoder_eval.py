"""`quench eval` of an encoder: cosines against ONNX Runtime's hidden states and numpy."""

import json

import model_zoo as zoo
import numpy as np
import pytest
from conftest import SHARED

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
helper = onnx.helper


def make_encoder(path, width=32, vocabulary=40):
    """Two residual linear layers on an embedding; the output is called last_hidden_state."""
    rng = np.random.default_rng(3)
    constants = {"table": rng.standard_normal((vocabulary, width)), "a": rng.standard_normal((width, width)) / 6,
                 "b": rng.standard_normal((width, width)) / 6}
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["x"]), helper.make_node("MatMul", ["x", "a"], ["y"]),
             helper.make_node("Relu", ["y"], ["r"]), helper.make_node("MatMul", ["r", "b"], ["z"]),
             helper.make_node("Add", ["x", "z"], ["last_hidden_state"])]
    graph = helper.make_graph(
        nodes, "encoder", [helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("last_hidden_state", onnx.TensorProto.FLOAT, ["batch", "sequence", width])],
        [onnx.numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def embedding(states):
    mean = states.astype(np.float64).mean(0)
    return mean / np.linalg.norm(mean)


def test_cosines_are_those_of_numpy(quench_driver, tmp_path):
    source = make_encoder(tmp_path / "encoder.onnx")
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: r\nrules:\n  - role: embedding\n    format: keep\n    optional: true\n"
                      "  - format: \"int<2, group = 32>\"\n")
    binary = tmp_path / "m.so"
    quench_driver("compile", source, "-o", binary, "--recipe", recipe)
    ids = np.random.default_rng(0).integers(1, 40, (6, 9))
    np.save(tmp_path / "ids.npy", ids)
    session = ort.InferenceSession(str(source))
    cosines = []
    for row in ids:
        np.save(tmp_path / "row.npy", row[None])
        quench_driver("run", binary, "--input", tmp_path / "row.npy", "--output", tmp_path / "out.npy")
        want = session.run(None, {"input_ids": row[None]})[0]
        cosines.append(embedding(np.load(tmp_path / "out.npy")[0]) @ embedding(want[0]))
    evaluate = ["--data", tmp_path / "ids.npy", "--reference", source, "--json"]
    found = json.loads(quench_driver("eval", binary, *evaluate).stdout)
    assert found["cosine"] == pytest.approx(np.mean(cosines), abs=1e-6)
    assert found["least_cosine"] == pytest.approx(np.min(cosines), abs=1e-6)
    assert found["sentences"] == 6 and found["tokens"] == 54 and found["cosine"] < 0.9999
    # By the interpreter, on some of the sentences, cut short.
    found = json.loads(quench_driver("eval", source, "--interpret", *evaluate, "--windows", "2", "--context", "5").stdout)
    assert found["cosine"] == pytest.approx(1, abs=1e-9) and found["sentences"] == 2 and found["tokens"] == 10
    done = quench_driver("eval", binary, "--data", tmp_path / "ids.npy", ok=False)
    assert "is an encoder: its embeddings are compared with those of --reference" in done.stderr


def test_lines_are_sentences(quench_driver, tmp_path):
    source = zoo.make_large("minilm-14", quench_driver.path.parents[1] / "models", SHARED)
    if source is None or not (source.parent / "tokenizer.json").exists():
        pytest.skip("the model is not there")
    (tmp_path / "s.txt").write_text("A man eats.\n\nThe sky is blue today.\n")
    done = quench_driver("eval", source, "--interpret", "--data", tmp_path / "s.txt", "--reference", source)
    assert "cosine         1.000000" in done.stdout and "sentences      2" in done.stdout
