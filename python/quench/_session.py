"""The call shape of ONNX Runtime."""

import os
import tempfile
from collections import namedtuple

import numpy as np

from ._model import Error, Model

NodeArg = namedtuple("NodeArg", "name type shape")
NodeArg.__doc__ = "An input or output as ONNX Runtime describes it: type is a text such as 'tensor(float)'."

_TYPE_NAMES = {1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
               10: "float16", 11: "double", 12: "uint32", 13: "uint64", 16: "bfloat16"}


class InferenceSession:
    """onnxruntime.InferenceSession for compiled models.

    path: a compiled model, or an ONNX model, which is compiled first (`recipe`, by default without quantization) into
    a temporary file. Providers and options of ONNX Runtime's are accepted; of the options only
    intra_op_num_threads counts.
    """

    def __init__(self, path, sess_options=None, providers=None, provider_options=None, recipe="f32", **unused):
        self._folder = None
        path = os.fspath(path)
        if not _is_elf(path):
            from ._compiler import compile

            self._folder = tempfile.TemporaryDirectory(prefix="quench-")
            path = compile(path, os.path.join(self._folder.name, "model.so"), recipe=recipe)
        self.model = Model(path)
        self._context = self.model.context(threads=getattr(sess_options, "intra_op_num_threads", 0), capacity=1)

    def get_inputs(self):
        return [_node_arg(info) for info in self.model.inputs]

    def get_outputs(self):
        return [_node_arg(info) for info in self.model.outputs]

    def get_providers(self):
        return ["CPUExecutionProvider"]

    def run(self, output_names, input_feed, run_options=None):
        """The outputs named (None: all), as a list."""
        names = [info.name for info in self.model.outputs] if output_names is None else list(output_names)
        feed = {name: np.asarray(value) for name, value in input_feed.items()}
        results = self._context.run(feed, names)
        return [results[name] for name in names]


def _node_arg(info):
    return NodeArg(info.name, f"tensor({_TYPE_NAMES[info.type]})", list(info.shape))


def _is_elf(path):
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError as error:
        raise Error(str(error)) from error
