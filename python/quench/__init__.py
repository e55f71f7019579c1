"""Quench: from an ONNX model to a quantized native binary.

    quench.compile("model.onnx", "model.so", recipe="w4a8")
    outputs = quench.load("model.so")(input_ids=ids)
    for piece in quench.generate("model.so", "Hello", tokenizer="tokenizer.json"): ...

`quench.InferenceSession` has ONNX Runtime's call shape. `python -m quench.gguf` makes ONNX models of GGUF files and
needs no compiled part of this package.
"""

import importlib

__version__ = "0.1.0"

# Loaded when first asked for: the converter must work where the extension was not built.
_PLACES = {
    "Error": "_model", "Model": "_model", "Context": "_model", "TensorInfo": "_model", "load": "_model",
    "InferenceSession": "_session", "NodeArg": "_session",
    "Tokenizer": "_language", "generate": "_language",
    "compile": "_compiler", "evaluate": "_compiler", "inspect": "_compiler",
}
__all__ = sorted(_PLACES)


def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(f"module 'quench' has no attribute {name!r}")
    value = getattr(importlib.import_module("." + _PLACES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(set(globals()) | set(_PLACES))
