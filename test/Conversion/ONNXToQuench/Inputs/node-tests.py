"""Runs ONNX's own tests of single operators through import, conversion and the reference interpreter.

node-tests.py ARCHIVE FOLDER [PREFIX...]: unpacks the archive of onnx/backend/test/data/node into FOLDER and runs the
tests whose names begin with a prefix (all without one). Prints how many gave ONNX's results, how many were refused, and
each one that did neither. Floats agree to 1e-3, relative, or 1e-6 (f16: 1e-2).
"""
import glob
import os
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
from onnx import numpy_helper

REFUSED = ("cannot be converted", "not supported", "is not known", "unsupported")


def read(path):
    tensor = onnx.TensorProto()
    with open(path, "rb") as f:
        tensor.ParseFromString(f.read())
    return numpy_helper.to_array(tensor)


def run(folder):
    """'right', 'refused', or what is wrong."""
    model = onnx.load(folder + "/model.onnx")
    data, out = folder + "/test_data_set_0", folder + "/ours"
    stored = {t.name for t in model.graph.initializer}
    inputs = [i.name for i in model.graph.input if i.name not in stored]
    os.makedirs(out, exist_ok=True)
    command = ["quench-interpret", folder + "/model.onnx", "--output-dir", out]
    try:
        for i, name in enumerate(inputs):
            path = f"{out}/input_{i}.npy"
            np.save(path, read(f"{data}/input_{i}.pb"))
            command += ["--input", f"{name}={path}"]
        wanted = [read(f"{data}/output_{i}.pb") for i in range(len(model.graph.output))]
    except Exception:  # sequences, optionals, types that numpy lacks
        return "refused"
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    if done.returncode:
        plain = done.returncode == 1 and any(word in done.stderr for word in REFUSED)
        return "refused" if plain else f"status {done.returncode}: {done.stderr[:300]}"
    for value, want in zip(model.graph.output, wanted):
        if want.dtype.kind not in "biuf":
            return "refused"
        path = f"{out}/{value.name}.npy"
        got = np.load(path)
        if got.shape != want.shape:
            return f"{value.name} has shape {got.shape}, not {want.shape}"
        tolerance = dict(rtol=1e-2, atol=1e-3) if want.dtype == np.float16 else dict(rtol=1e-3, atol=1e-6)
        if want.dtype.kind == "f":
            good = np.allclose(got, want, equal_nan=True, **tolerance)
        else:
            good = np.array_equal(got.astype(want.dtype), want)
        if not good:
            return f"{value.name} differs"
    return "right"


def main():
    archive, folder, *prefixes = sys.argv[1:]
    with tarfile.open(archive) as tar:
        tar.extractall(folder)
    tests = sorted(os.path.dirname(path) for path in glob.glob(folder + "/**/model.onnx", recursive=True))
    tests = [t for t in tests if os.path.basename(t).startswith(tuple(prefixes or [""]))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(run, tests))
    print("right:", results.count("right"))
    print("refused:", results.count("refused"))
    wrong = [(t, r) for t, r in zip(tests, results) if r not in ("right", "refused")]
    print("wrong:", len(wrong))
    for test, result in wrong:
        print(os.path.basename(test), result)
    if "QUENCH_NODE_TESTS" in os.environ:
        with open(os.environ["QUENCH_NODE_TESTS"], "w") as f:
            f.writelines(f"{os.path.basename(t)} {r}\n" for t, r in zip(tests, results))


if __name__ == "__main__":
    main()
