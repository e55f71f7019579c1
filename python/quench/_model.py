"""Compiled models: opening them and running them on numpy arrays."""

import json
from collections import namedtuple

import numpy as np

from . import _quench

Error = _quench.Error

# ONNX's numbers of element types -> numpy. bfloat16 has no numpy type: its bits travel as uint16.
_TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_,
          10: np.float16, 11: np.float64, 12: np.uint32, 13: np.uint64, 16: np.uint16}
_TYPES = {number: np.dtype(kind) for number, kind in _TYPES.items()}

TensorInfo = namedtuple("TensorInfo", "name type dtype shape")
TensorInfo.__doc__ = """An input or output: its name, ONNX's number of its element type, the numpy dtype, and the shape,
in which a string names a size that is known at run time."""


def _infos(raw):
    return [TensorInfo(name, kind, _TYPES[kind], tuple(dim if dim >= 0 else label for dim, label in zip(dims, names)))
            for name, kind, dims, names in raw]


class Model:
    """A compiled model, immutable. Several contexts (conversations, threads of the caller) may use it at once."""

    def __init__(self, path):
        self._model = _quench.Model(str(path))
        self.path = str(path)
        self.inputs = _infos(self._model.inputs())
        self.outputs = _infos(self._model.outputs())
        self.metadata = json.loads(self._model.metadata() or "{}")
        self.has_state = self._model.has_state()
        self.vocabulary = self._model.vocabulary()
        self.max_positions = self._model.max_positions()
        self._contexts = []

    def context(self, threads=0, capacity=0):
        """A context with its own threads (0: one per processor) and state for `capacity` positions (0: the most)."""
        return Context(self, threads, capacity)

    def __call__(self, **inputs):
        """Runs the model on arrays by name; returns a dict of outputs by name."""
        # Contexts that are not busy are kept. Lists are safe between threads, so threads may share a model.
        try:
            context = self._contexts.pop()
        except IndexError:
            context = self.context(capacity=1)
        try:
            return context.run(inputs)
        finally:
            self._contexts.append(context)

    def __repr__(self):
        return f"quench.Model({self.path!r})"


class Context:
    """One run or one conversation of a model; used by one thread at a time."""

    def __init__(self, model, threads=0, capacity=0):
        self.model = model
        self._context = _quench.Context(model._model, threads, capacity)

    def run(self, inputs, outputs=None):
        """Runs the model's main function.

        inputs: a dict of arrays by name. Dense arrays of the right type are read where they lie, others are copied
        once; a type that is not the input's is an Error.
        outputs: the names of those wanted (all), or a dict of arrays to write into. Returns a dict.
        """
        arrays = self._arrays(inputs)
        self._context.set_inputs(arrays)
        given = outputs if isinstance(outputs, dict) else {}
        wanted = [info.name for info in self.model.outputs] if outputs is None else list(outputs)
        results = []
        by_name = {}
        for index, info in enumerate(self.model.outputs):
            if info.name not in wanted:
                results.append(None)
                continue
            array = given.get(info.name)
            shape = tuple(self._context.output_shape(index))
            if array is None:
                array = np.empty(shape, info.dtype)
            elif array.dtype != info.dtype or array.shape != shape or not array.flags.c_contiguous:
                raise Error(f"output {info.name!r} takes a dense {info.dtype} array of shape {shape}, not "
                            f"{array.dtype} {array.shape}")
            results.append(array)
            by_name[info.name] = array
        unknown = [name for name in wanted if name not in by_name]
        if unknown:
            raise Error(f"no output is named {unknown[0]!r}; there are: {', '.join(o.name for o in self.model.outputs)}")
        self._context.run(results)
        return {name: by_name[name] for name in wanted}

    def _arrays(self, inputs):
        names = [info.name for info in self.model.inputs]
        for name in inputs:
            if name not in names:
                raise Error(f"no input is named {name!r}; there are: {', '.join(names)}")
        missing = [name for name in names if name not in inputs]
        if missing:
            raise Error(f"input {missing[0]!r} is missing")
        arrays = []
        for info in self.model.inputs:
            array = np.asarray(inputs[info.name])
            if array.dtype != info.dtype:
                raise Error(f"input {info.name!r} takes {info.dtype}, not {array.dtype}")
            arrays.append((info.type, array if array.flags.c_contiguous else array.copy(order="C")))
        return arrays

    def step(self, tokens, all=False):
        """Appends token ids to the state. Returns the logits after the last one, [vocabulary], or with `all` after
        each, [tokens, vocabulary]."""
        tokens = np.ascontiguousarray(tokens, dtype=np.int64).reshape(-1)
        rows = len(tokens) if all else 1
        logits = np.empty((rows, self.model.vocabulary), np.float32)
        self._context.step(tokens, logits, all)
        return logits if all else logits[0]

    @property
    def length(self):
        """Positions in the state."""
        return self._context.length()

    @property
    def capacity(self):
        """The most positions the state can hold."""
        return self._context.capacity()

    def reset(self):
        """Forgets all positions."""
        self._context.truncate(0)

    def truncate(self, length):
        """Forgets the positions from `length` on."""
        self._context.truncate(length)

    def save(self):
        """The state as bytes."""
        return self._context.save()

    def load(self, state):
        """Takes back what `save` of the same model returned."""
        self._context.load(state)


def load(path):
    """Opens a compiled model. Raises quench.Error for a file that is truncated, altered or not a compiled model."""
    return Model(path)
