"""The ONNX graph of a decoder of the Llama family, as exporters write it.

Two interfaces are made:

  past   input_ids [batch, seq], attention_mask [batch, past + seq], position_ids [batch, seq] and
         past_key_values.N.key/value [batch, kv heads, past, head]
         -> logits [batch, seq, vocabulary], present.N.key/value [batch, kv heads, past + seq, head]
  plain  input_ids [batch, seq] -> logits; positions count from 0 and come from tables

Weights are asked from a source, an object with `shape(name)` and `load(name)`; the names are those of Hugging Face's
modules ("model.layers.0.self_attn.q_proj.weight", stored [outputs, inputs]).
"""

from dataclasses import dataclass
from typing import Optional

import numpy as np
from onnx import TensorProto

from ._onnx_writer import GraphBuilder

OPSET = 17


@dataclass
class LlamaConfig:
    """Sizes and constants of a model."""

    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    norm_epsilon: float = 1e-5
    rope_theta: float = 10000.0
    tied: bool = False
    # One factor for each rotary frequency, which is divided by it; None stands for ones.
    rope_factors: Optional[np.ndarray] = None

    def frequencies(self):
        """The angle per position of each of the head's pairs, float64."""
        exponents = np.arange(0, self.head_size, 2, dtype=np.float64) / self.head_size
        frequencies = 1.0 / self.rope_theta**exponents
        return frequencies if self.rope_factors is None else frequencies / self.rope_factors


class LlamaGraph:
    """Builds the graph of one model; `build` returns the filled GraphBuilder."""

    def __init__(self, config, source, kind="past"):
        if kind not in ("past", "plain"):
            raise ValueError(f"unknown kind of graph {kind!r}; known: past, plain")
        self.config = config
        self.source = source
        self.cached = kind == "past"
        self.graph = GraphBuilder()

    def build(self):
        """Adds all nodes. The weights are not touched: `GraphBuilder.save` loads them."""
        config, graph = self.config, self.graph
        graph.input("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"])
        if self.cached:
            graph.input("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"])
            graph.input("position_ids", TensorProto.INT64, ["batch_size", "sequence_length"])
            for layer in range(config.layers):
                for part in ("key", "value"):
                    graph.input(f"past_key_values.{layer}.{part}", TensorProto.FLOAT,
                                ["batch_size", config.kv_heads, "past_sequence_length", config.head_size])
        graph.output("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", config.vocabulary])

        x = graph.node("Gather", [self._stored("model.embed_tokens.weight"), "input_ids"], "/model/embed_tokens/Gather")
        self._lengths()
        self._rotary_tables()
        self._mask()
        self._shapes()
        for layer in range(config.layers):
            x = self._layer(layer, x)
        x = self._norm(x, "/model/norm")
        if config.tied:
            head = graph.node("Transpose", ["model.embed_tokens.weight"], "/lm_head/Transpose", perm=[1, 0])
        else:
            head = self._transposed("lm_head.weight")
        graph.node("MatMul", [x, head], "/lm_head/MatMul", output="logits")
        return graph

    # Weights.

    def _stored(self, name):
        return self.graph.weight(name, self.source.shape(name), lambda: self.source.load(name))

    def _transposed(self, name):
        shape = tuple(reversed(self.source.shape(name)))
        return self.graph.weight(name + "_t", shape, lambda: self.source.load(name).T)

    def _linear(self, x, path):
        graph, module = self.graph, path[1:].replace("/", ".")
        y = graph.node("MatMul", [x, self._transposed(module + ".weight")], path + "/MatMul")
        if self.source.has(module + ".bias"):
            y = graph.node("Add", [self._stored(module + ".bias"), y], path + "/Add")
        return y

    def _norm(self, x, path):
        graph = self.graph
        squares = graph.node("Pow", [x, graph.float("two", 2)], path + "/Pow")
        mean = graph.node("ReduceMean", [squares], path + "/ReduceMean", axes=[-1], keepdims=1)
        mean = graph.node("Add", [mean, graph.float("norm_epsilon", self.config.norm_epsilon)], path + "/Add")
        root = graph.node("Sqrt", [mean], path + "/Sqrt")
        inverse = graph.node("Div", [graph.float("one", 1), root], path + "/Div")
        unit = graph.node("Mul", [x, inverse], path + "/Mul")
        return graph.node("Mul", [self._stored(path[1:].replace("/", ".") + ".weight"), unit], path + "/Mul_1")

    # Values that all layers share.

    def _lengths(self):
        """batch, seq: vectors of one element; rows, cols: the positions of queries and keys; total: keys, a vector."""
        graph = self.graph
        shape = graph.node("Shape", ["input_ids"], "/model/Shape")
        batch = graph.node("Gather", [shape, graph.int(0)], "/model/Gather")
        seq = graph.node("Gather", [shape, graph.int(1)], "/model/Gather_1")
        self.batch = graph.node("Unsqueeze", [batch, graph.ints(0)], "/model/Unsqueeze")
        self.seq = graph.node("Unsqueeze", [seq, graph.ints(0)], "/model/Unsqueeze_1")
        if self.cached:
            cache = graph.node("Shape", ["past_key_values.0.key"], "/model/Shape_1")
            past = graph.node("Gather", [cache, graph.int(2)], "/model/Gather_2")
            total = graph.node("Add", [past, seq], "/model/Add")
            self.rows = graph.node("Range", [past, total, graph.int(1)], "/model/Range")
            self.cols = graph.node("Range", [graph.int(0), total, graph.int(1)], "/model/Range_1")
        else:
            total = seq
            self.rows = self.cols = graph.node("Range", [graph.int(0), seq, graph.int(1)], "/model/Range")
        self.total = graph.node("Unsqueeze", [total, graph.ints(0)], "/model/Unsqueeze_2")

    def _rotary_tables(self):
        """cos, sin [batch or 1, 1, seq, head]: the angles of the pairs, twice."""
        graph, path = self.graph, "/model/rotary_emb"
        frequencies = self.config.frequencies()
        if not self.cached:
            angles = np.outer(np.arange(self.config.context), frequencies)
            angles = np.concatenate([angles, angles], axis=-1)[None, None]
            self.cos, self.sin = (
                graph.node("Slice", [graph.weight(f"model.rotary_emb.{name}", angles.shape, lambda f=f: f(angles)),
                                     graph.ints(0), self.seq, graph.ints(2)], f"{path}/Slice_{name}")
                for name, f in (("cos", np.cos), ("sin", np.sin)))
            return
        column = graph.constant("model.rotary_emb.inv_freq", frequencies.astype(np.float32)[None, :, None])
        positions = graph.node("Cast", ["position_ids"], path + "/Cast", to=TensorProto.FLOAT)
        positions = graph.node("Unsqueeze", [positions, graph.ints(1)], path + "/Unsqueeze")
        angles = graph.node("MatMul", [column, positions], path + "/MatMul")
        angles = graph.node("Transpose", [angles], path + "/Transpose", perm=[0, 2, 1])
        angles = graph.node("Concat", [angles, angles], path + "/Concat", axis=-1)
        self.cos, self.sin = (
            graph.node("Unsqueeze", [graph.node(kind, [angles], f"{path}/{kind}"), graph.ints(1)],
                       f"{path}/Unsqueeze_{kind}") for kind in ("Cos", "Sin"))

    def _mask(self):
        """bias [seq, total] or [batch, 1, seq, total]: 0 where a query may look, the lowest float elsewhere."""
        graph = self.graph
        rows = graph.node("Unsqueeze", [self.rows, graph.ints(1)], "/model/Unsqueeze_3")
        allowed = graph.node("LessOrEqual", [self.cols, rows], "/model/LessOrEqual")
        if self.cached:
            keep = graph.node("Cast", ["attention_mask"], "/model/Cast", to=TensorProto.BOOL)
            keep = graph.node("Unsqueeze", [keep, graph.ints(1, 2)], "/model/Unsqueeze_4")
            allowed = graph.node("And", [allowed, keep], "/model/And")
        lowest = graph.float("mask_value", np.finfo(np.float32).min)
        self.bias = graph.node("Where", [allowed, graph.float("zero", 0), lowest], "/model/Where")

    def _shapes(self):
        """The shapes that the layers' Reshape and Expand nodes take."""
        graph, config = self.graph, self.config

        def shape(name, *parts):
            parts = [part if isinstance(part, str) else graph.ints(part) for part in parts]
            return graph.node("Concat", parts, f"/model/Concat_{name}", axis=0)

        heads, kv_heads, head = config.heads, config.kv_heads, config.head_size
        self.query_shape = shape("query", self.batch, self.seq, heads, head)
        self.key_shape = shape("key", self.batch, self.seq, kv_heads, head)
        self.merged_shape = shape("merged", self.batch, self.seq, heads * head)
        if heads > kv_heads:
            self.expanded_shape = shape("expanded", self.batch, kv_heads, heads // kv_heads, self.total, head)
            self.repeated_shape = shape("repeated", self.batch, heads, self.total, head)

    # One layer.

    def _layer(self, layer, x):
        graph, path = self.graph, f"/model/layers.{layer}"
        attended = self._attention(layer, self._norm(x, path + "/input_layernorm"), path + "/self_attn")
        x = graph.node("Add", [x, attended], path + "/Add")
        y = self._norm(x, path + "/post_attention_layernorm")
        gate = self._linear(y, path + "/mlp/gate_proj")
        up = self._linear(y, path + "/mlp/up_proj")
        sigmoid = graph.node("Sigmoid", [gate], path + "/mlp/act_fn/Sigmoid")
        y = graph.node("Mul", [gate, sigmoid], path + "/mlp/act_fn/Mul")
        y = graph.node("Mul", [y, up], path + "/mlp/Mul")
        return graph.node("Add", [x, self._linear(y, path + "/mlp/down_proj")], path + "/Add_1")

    def _attention(self, layer, x, path):
        graph, config = self.graph, self.config

        def heads_of(name, shape):
            y = graph.node("Reshape", [self._linear(x, f"{path}/{name}_proj"), shape], f"{path}/Reshape_{name}")
            return graph.node("Transpose", [y], f"{path}/Transpose_{name}", perm=[0, 2, 1, 3])

        query = self._rotate(heads_of("q", self.query_shape), path + "/rotary_q")
        key = self._rotate(heads_of("k", self.key_shape), path + "/rotary_k")
        value = heads_of("v", self.key_shape)
        if self.cached:
            key, value = (self._extend_cache(layer, part, new, path) for part, new in (("key", key), ("value", value)))
        if config.heads > config.kv_heads:
            key, value = (self._repeat(y, f"{path}/{name}") for name, y in (("repeat_k", key), ("repeat_v", value)))
        key = graph.node("Transpose", [key], path + "/Transpose_kt", perm=[0, 1, 3, 2])
        scores = graph.node("MatMul", [query, key], path + "/MatMul")
        scores = graph.node("Div", [scores, graph.float("sqrt_head", np.sqrt(config.head_size))], path + "/Div")
        scores = graph.node("Add", [scores, self.bias], path + "/Add")
        weights = graph.node("Softmax", [scores], path + "/Softmax", axis=-1)
        y = graph.node("MatMul", [weights, value], path + "/MatMul_1")
        y = graph.node("Transpose", [y], path + "/Transpose_o", perm=[0, 2, 1, 3])
        y = graph.node("Reshape", [y, self.merged_shape], path + "/Reshape_o")
        return self._linear(y, path + "/o_proj")

    def _rotate(self, x, path):
        """Rotates pair i, which lies at i and i + head / 2, by its angle."""
        graph, head = self.graph, self.config.head_size
        low, high = (graph.node("Slice", [x, graph.ints(begin), graph.ints(begin + head // 2), graph.ints(-1),
                                          graph.ints(1)], f"{path}/Slice_{begin}") for begin in (0, head // 2))
        turned = graph.node("Concat", [graph.node("Neg", [high], path + "/Neg"), low], path + "/Concat", axis=-1)
        a = graph.node("Mul", [x, self.cos], path + "/Mul")
        b = graph.node("Mul", [turned, self.sin], path + "/Mul_1")
        return graph.node("Add", [a, b], path + "/Add")

    def _extend_cache(self, layer, part, new, path):
        config, name = self.config, f"present.{layer}.{part}"
        self.graph.output(name, TensorProto.FLOAT,
                          ["batch_size", config.kv_heads, "total_sequence_length", config.head_size])
        return self.graph.node("Concat", [f"past_key_values.{layer}.{part}", new], f"{path}/Concat_{part}",
                               output=name, axis=2)

    def _repeat(self, x, path):
        """[batch, kv heads, total, head] -> [batch, heads, total, head], each head repeated for its group."""
        graph = self.graph
        x = graph.node("Unsqueeze", [x, graph.ints(2)], path + "/Unsqueeze")
        x = graph.node("Expand", [x, self.expanded_shape], path + "/Expand")
        return graph.node("Reshape", [x, self.repeated_shape], path + "/Reshape")
