"""Imports all models below a folder and compares their initializers with what the onnx package reads.

    compare-initializers.py FOLDER

Prints one line a model: the number of equal initializers, those that are wrong, or the operators that were refused.
"""
import os
import re
import subprocess
import sys

import numpy as np
import onnx
from onnx import numpy_helper

INITIALIZER = re.compile(r'\s*quench\.initializer @("?)(.*?)\1 source\((.*)\) : tensor<.*>$')
FILE = re.compile(r'#quench\.file<"(.*)", (\d+), (\d+)>$')


def constants(model):
    """The model's initializers and Constant tensors by name."""
    for tensor in model.graph.initializer:
        yield tensor.name, numpy_helper.to_array(tensor)
    for node in model.graph.node:
        if node.op_type == "Constant":
            yield node.output[0], numpy_helper.to_array(node.attribute[0].t)


def same(source, array, folder):
    """Whether a source attribute stands for the numbers of an array."""
    in_file = FILE.match(source)
    if in_file:
        with open(os.path.join(folder, in_file.group(1)), "rb") as data:
            data.seek(int(in_file.group(2)))
            return data.read(int(in_file.group(3))) == array.tobytes()
    text = re.match(r"dense<(.*)> : ", source).group(1)
    if array.size == 0:
        return text == ""
    if text.startswith('"0x'):
        return bytes.fromhex(text[3:-1]) == array.tobytes()
    values = []
    for number in re.findall(r"[-+\w.]+", text):
        if number in ("true", "false"):
            values.append(number == "true")
        elif number.startswith("0x"):  # the bits of an infinity or NaN
            values.append(np.frombuffer(int(number, 16).to_bytes(array.itemsize, "little"), array.dtype)[0])
        else:
            values.append(int(number) if array.dtype.kind in "iu" else float(number))
    values = np.array(values).astype(array.dtype)
    if values.size == 1:
        values = np.repeat(values, array.size)
    equal_nan = array.dtype.kind == "f"
    return np.array_equal(values, array.ravel(), equal_nan=equal_nan)


def check(path):
    run = subprocess.run(["quench-translate", "--import-onnx", path], capture_output=True, text=True)
    if run.returncode != 0:
        operators = re.findall(r"^  '.*?': (\w+) of ", run.stderr, re.M)
        nodes = int(re.search(r": (\d+) nodes? (?:is|are) not supported", run.stderr).group(1))
        assert run.returncode == 1 and nodes == len(operators), run.stderr
        return "refused (%s)" % " ".join(sorted(set(operators)))
    sources = {m.group(2): m.group(3) for m in map(INITIALIZER.match, run.stdout.splitlines()) if m}
    equal, wrong = 0, []
    for name, array in constants(onnx.load(path)):
        if name in sources and same(sources[name], array, os.path.dirname(path)):
            equal += 1
        else:
            wrong.append(name)
    return "%d equal%s" % (equal, ", wrong: " + " ".join(wrong) if wrong else "")


def main():
    root = sys.argv[1]
    for folder, _, files in sorted(os.walk(root)):
        for name in sorted(files):
            if name.endswith(".onnx"):
                path = os.path.join(folder, name)
                print("%s: %s" % (os.path.relpath(path, root), check(path)), flush=True)


if __name__ == "__main__":
    main()
