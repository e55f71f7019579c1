"""Writing ONNX models whose weights are made one at a time.

`GraphBuilder` collects nodes and initializers. A big initializer is registered with its shape and a function that makes
its values; only `save` calls the function, writes what it returns to the external data file and lets it go. The memory
needed is therefore that of the largest tensor, whatever the size of the model.
"""

import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# ONNX asks for no alignment; a page lets every reader map the tensor where it lies.
ALIGNMENT = 4096


class GraphBuilder:
    """Nodes, inputs, outputs and initializers of one graph, in the order of their making."""

    def __init__(self):
        self.nodes = []
        self.inputs = []
        self.outputs = []
        self.initializers = {}
        self.external = []

    def input(self, name, element_type, shape):
        """Declares a graph input; strings in `shape` name dynamic dimensions."""
        self.inputs.append(helper.make_tensor_value_info(name, element_type, shape))
        return name

    def output(self, name, element_type, shape):
        """Declares a graph output."""
        self.outputs.append(helper.make_tensor_value_info(name, element_type, shape))
        return name

    def node(self, kind, inputs, name, output=None, **attributes):
        """Adds a node with one output, called `output` or after the node, and returns the output's name."""
        output = output or name + "_output_0"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name, value):
        """A small initializer inside of the model file. Asked for twice, it is made once."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def ints(self, *values):
        """A vector of int64."""
        return self.constant("ints_" + "_".join(map(str, values)).replace("-", "m"), np.array(values, np.int64))

    def int(self, value):
        """A scalar of int64."""
        return self.constant(f"int_{value}".replace("-", "m"), np.int64(value))

    def float(self, name, value):
        """A scalar of float32."""
        return self.constant(name, np.float32(value))

    def weight(self, name, shape, load):
        """A float32 initializer in the external data file; `load()` returns its values when the file is written."""
        if name not in self.initializers:
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
            self.initializers[name] = tensor
            self.external.append((tensor, load))
        return name

    def save(self, path, graph_name, opset, metadata=None):
        """Writes the model to `path` and the weights to `path` + ".data".

        Both are written under other names first, so that a failure leaves no half of a model. Raises ValueError when a
        tensor does not have the shape it was registered with, OSError when a file cannot be written.
        """
        data_path = path + ".data"
        parts = [path + ".part", data_path + ".part"]
        try:
            with open(parts[1], "wb") as file:
                for tensor, load in self.external:
                    self._append(file, tensor, load, os.path.basename(data_path))
            graph = helper.make_graph(self.nodes, graph_name, self.inputs, self.outputs,
                                      list(self.initializers.values()))
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8,
                                      producer_name="quench")
            helper.set_model_props(model, {key: str(value) for key, value in (metadata or {}).items()})
            with open(parts[0], "wb") as file:
                file.write(model.SerializeToString())
            os.replace(parts[1], data_path)
            os.replace(parts[0], path)
        except BaseException:
            for part in parts:
                if os.path.exists(part):
                    os.remove(part)
            raise
        # Checked from the file, so that the checker also looks at the external data's places.
        onnx.checker.check_model(path, full_check=True)

    @staticmethod
    def _append(file, tensor, load, location):
        values = np.ascontiguousarray(load(), dtype="<f4")
        if list(values.shape) != list(tensor.dims):
            raise ValueError(f"tensor {tensor.name} has the shape {list(values.shape)}, not {list(tensor.dims)}")
        file.write(b"\0" * (-file.tell() % ALIGNMENT))
        entries = {"location": location, "offset": file.tell(), "length": values.nbytes}
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        file.write(memoryview(values).cast("B") if values.size else b"")
