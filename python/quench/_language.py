"""Text from language models."""

import json
import os

import numpy as np

from . import _quench
from ._model import Error, Model

Tokenizer = _quench.Tokenizer


def generate(model, prompt, tokenizer=None, n=64, temperature=0.0, top_p=1.0, seed=0, stop=None, threads=0):
    """Continues a prompt; yields what comes as it comes.

    model: a path, or a Model with state. prompt: a text, which needs a tokenizer (the path of a tokenizer.json, or a
    Tokenizer) and yields pieces of text, or a sequence of token ids, which yields ids. n: the most tokens to make.
    temperature: 0 takes the most probable token; otherwise tokens are drawn from the smallest set whose probabilities
    reach top_p. stop: ids that end the text; by default those that config.json beside the tokenizer names, or none.
    """
    if not isinstance(model, Model):
        model = Model(model)
    if not model.has_state:
        raise Error(f"{model.path}: text is made of models with a state (key/value caches) only")
    if temperature < 0 or not 0 < top_p <= 1:
        raise Error(f"temperature must be at least 0 and top_p in (0, 1], not {temperature} and {top_p}")
    decoder = None
    if isinstance(prompt, str):
        if tokenizer is None:
            raise Error("a text as prompt needs a tokenizer")
        if stop is None and not isinstance(tokenizer, Tokenizer):
            stop = _end_tokens(os.fspath(tokenizer))
        if not isinstance(tokenizer, Tokenizer):
            tokenizer = Tokenizer(os.fspath(tokenizer))
        decoder = _quench.StreamDecoder(tokenizer)
        prompt = tokenizer.encode(prompt)
    # Checked by now; the rest runs as the caller asks for pieces.
    return _pieces(model, list(prompt), decoder, n, temperature, top_p, seed, frozenset(stop or ()), threads)


def _pieces(model, ids, decoder, n, temperature, top_p, seed, stop, threads):
    context = model.context(threads)
    rng = np.random.default_rng(seed)
    for count in range(n):
        token = _choose(context.step(ids), temperature, top_p, rng)
        if token in stop:
            break
        if decoder is None:
            yield token
        elif piece := decoder.push(token):
            yield piece
        ids = [token]
    if decoder is not None and (piece := decoder.finish()):
        yield piece


def _choose(logits, temperature, top_p, rng):
    """The most probable token, or one drawn from the likeliest whose probabilities reach top_p."""
    if temperature == 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities, kind="stable")
    sums = np.cumsum(probabilities[order])
    # The first one whose sum reaches top_p is the last kept.
    kept = order[:np.searchsorted(sums, top_p) + 1]
    return int(rng.choice(kept, p=probabilities[kept] / probabilities[kept].sum()))


def _end_tokens(tokenizer):
    """The ids in eos_token_id of the config.json beside a tokenizer.json."""
    try:
        with open(os.path.join(os.path.dirname(tokenizer), "config.json"), encoding="utf-8") as file:
            ends = json.load(file).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return []
    return ends if isinstance(ends, list) else [] if ends is None else [ends]
