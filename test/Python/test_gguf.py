"""The converter from GGUF to ONNX, against a decoder written in numpy and against the `tokenizers` package."""

import json

import llama_oracle as oracle
import numpy as np
import pytest

gguf = pytest.importorskip("gguf")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from quench import gguf as converter  # noqa: E402
from quench import _tokenizer_json as tokenizer_json  # noqa: E402

IDS = np.array([3, 17, 42, 8, 3, 49, 0, 21], np.int64)


def run(path, ids, past=None):
    """Logits and the new caches of a converted model."""
    session = ort.InferenceSession(str(path / "model.onnx"))
    feed = {"input_ids": ids[None]}
    if len(session.get_inputs()) > 1:
        start = 0 if past is None else past["past_key_values.0.key"].shape[2]
        feed["attention_mask"] = np.ones((1, start + len(ids)), np.int64)
        feed["position_ids"] = np.arange(start, start + len(ids))[None]
        for value in session.get_inputs()[3:]:
            feed[value.name] = np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32) if past is None \
                else past[value.name]
    results = dict(zip((o.name for o in session.get_outputs()), session.run(None, feed)))
    caches = {k.replace("present", "past_key_values"): v for k, v in results.items() if k.startswith("present")}
    return results["logits"][0], caches


CASES = {
    "tied": dict(),
    "untied with biases": dict(tied=False, bias=True),
    "as many key heads as heads": dict(kv_heads=4),
    "wide heads": dict(head=32),
    "another base": dict(theta=500000.0),
}


@pytest.mark.parametrize("kind", ["past", "plain"])
@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_numpy_decoder(tmp_path, case, kind):
    options = CASES[case]
    weights = oracle.random_weights(7, **{k: v for k, v in options.items() if k != "theta"})
    sizes = {k: v for k, v in options.items() if k not in ("tied", "bias")}
    oracle.write_gguf(tmp_path / "m.gguf", weights, **sizes)
    config = converter.convert(str(tmp_path / "m.gguf"), str(tmp_path / "out"), kind)
    assert config.tied == options.get("tied", True)
    got, _ = run(tmp_path / "out", IDS)
    want = oracle.logits(weights, IDS, **sizes)
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


def test_caches_continue_a_text(tmp_path):
    weights = oracle.random_weights(3)
    oracle.write_gguf(tmp_path / "m.gguf", weights)
    converter.convert(str(tmp_path / "m.gguf"), str(tmp_path / "out"))
    want = oracle.logits(weights, IDS)
    got, past = run(tmp_path / "out", IDS[:5])
    assert np.abs(got - want[:5]).max() < 1e-4
    for position in range(5, len(IDS)):
        got, past = run(tmp_path / "out", IDS[position:position + 1], past)
        assert np.abs(got[0] - want[position]).max() < 1e-4


def test_rotary_factors_and_quantized_tensors(tmp_path):
    weights = oracle.random_weights(5)
    factors = np.linspace(1, 8, 8).astype(np.float32)
    kinds = {"blk.0.attn_q.weight": gguf.GGMLQuantizationType.Q8_0,
             "blk.1.ffn_down.weight": gguf.GGMLQuantizationType.Q4_0}
    oracle.write_gguf(tmp_path / "m.gguf", {**weights, "rope_freqs.weight": factors}, types=kinds)
    converter.convert(str(tmp_path / "m.gguf"), str(tmp_path / "out"))
    for name, kind in kinds.items():
        weights[name] = gguf.quants.dequantize(gguf.quants.quantize(weights[name], kind), kind)
    got, _ = run(tmp_path / "out", IDS)
    want = oracle.logits(weights, IDS, factors=factors)
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


def test_tied_head_is_stored_once_and_bytes_repeat(tmp_path):
    oracle.write_gguf(tmp_path / "m.gguf", oracle.random_weights(1))
    for out in ("a", "b"):
        converter.convert(str(tmp_path / "m.gguf"), str(tmp_path / out))
    model = onnx.load(str(tmp_path / "a" / "model.onnx"), load_external_data=False)
    tables = [t.name for t in model.graph.initializer if sorted(t.dims) == [50, 64]]
    assert tables == ["model.embed_tokens.weight"]
    for name in ("model.onnx", "model.onnx.data", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def broken(weights, change):
    weights = dict(weights)
    change(weights)
    return weights


BROKEN = {
    "missing": (lambda w: w.pop("blk.1.attn_k.weight"), "k_proj.weight is missing"),
    "wrong shape": (lambda w: w.update({"blk.0.ffn_up.weight": w["blk.0.ffn_up.weight"][:-1]}), "instead of (96, 64)"),
    "unknown tensor": (lambda w: w.update({"blk.0.strange.weight": np.ones(4, np.float32)}), "blk.0.strange.weight"),
    "no embedding": (lambda w: w.pop("token_embd.weight"), "token_embd.weight"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_models_are_refused(tmp_path, case, capsys):
    change, message = BROKEN[case]
    oracle.write_gguf(tmp_path / "m.gguf", broken(oracle.random_weights(1), change))
    assert converter.main([str(tmp_path / "m.gguf"), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert message in error and "m.gguf" in error and len(error.strip().splitlines()) == 1


def test_other_files_are_refused(tmp_path, capsys):
    oracle.write_gguf(tmp_path / "m.gguf", oracle.random_weights(1))
    whole = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:len(whole) // 2])
    (tmp_path / "text.gguf").write_text("not a model")
    oracle.write_gguf(tmp_path / "other.gguf", oracle.random_weights(1), architecture="rwkv")
    for name, message in (("cut", "readable"), ("text", "readable"), ("none", "no such file"), ("other", "'rwkv'")):
        assert converter.main([str(tmp_path / f"{name}.gguf"), str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_model(tmp_path, monkeypatch, capsys):
    oracle.write_gguf(tmp_path / "m.gguf", oracle.random_weights(1))
    load = converter.GGUFSource.load

    def fail(self, name):
        if "layers.1" in name:
            raise OSError(28, "No space left on device")
        return load(self, name)

    monkeypatch.setattr(converter.GGUFSource, "load", fail)
    assert converter.main([str(tmp_path / "m.gguf"), str(tmp_path / "out")]) == 1
    assert "No space left" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("model.onnx*"))


# Tokenizers.

TEXT = ("It's the 21st of March, 1843;  they'll  pay 1234567 guilders.\n\n\tDON'T stop — naïve café, 日本語, 😀!\r\n"
        "   x = y+1;  // we've   spaces   \n<|end|>again <|end|>") * 3


def trained(splits, alphabet=True):
    """A byte-level BPE tokenizer trained by the `tokenizers` package."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splits
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|end|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


def splits_of(name):
    """The splits as the package's own objects, for another way than writing JSON."""
    from tokenizers import Regex, pre_tokenizers as p

    level = lambda use_regex: p.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    if name == "gpt-2":
        return level(True)
    if name == "smollm":
        return p.Sequence([p.Digits(individual_digits=True), level(True)])
    digits = r"\p{N}{1,3}" if name == "llama-bpe" else r"\p{N}"
    regex = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + digits +
             r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    return p.Sequence([p.Split(Regex(regex), "isolated"), level(False)])


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_byte_level_tokenizer(name):
    tokenizers = pytest.importorskip("tokenizers")
    original = trained(splits_of(name))
    model = json.loads(original.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    fields = {"model": "gpt2", "pre": name, "tokens": tokens, "merges": [" ".join(m) for m in model["merges"]],
              "token_type": [3 if t == "<|end|>" else 1 for t in tokens], "add_bos_token": False}
    ours = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json.tokenizer_json(fields)))
    want = original.encode(TEXT).ids
    assert ours.encode(TEXT).ids == want
    assert ours.decode(want, skip_special_tokens=False) == TEXT


def sentencepiece_ids(text, pieces, scores):
    """Sentencepiece's BPE in its simplest words: merge the neighbours whose piece has the best score, the leftmost
    first, until none are left; what is no piece becomes bytes."""
    parts = list("\u2581" + text.replace(" ", "\u2581"))
    index = {piece: i for i, piece in enumerate(pieces)}
    while True:
        best = max(((scores[index[a + b]], -i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in index),
                   default=None)
        if best is None:
            break
        i = -best[1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    ids = []
    for part in parts:
        ids += [index[part]] if part in index else [index[f"<0x{byte:02X}>"] for byte in part.encode()]
    return ids


def test_sentencepiece_tokenizer():
    tokenizers = pytest.importorskip("tokenizers")
    words = "\u2581the \u2581t th he ing in \u2581a \u2581an an nd and er re on \u2581\u2581 gu guil il ld \u2581p ay".split()
    letters = sorted(set("\u2581abcdefghijklmnopqrstuvwxyzITDNOM',.;"))
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + words + letters
    kinds = [2, 3, 3] + [6] * 256 + [1] * (len(words) + len(letters))
    scores = [0.0] * 259 + [-float(i) for i in range(len(words) + len(letters))]
    fields = {"model": "llama", "tokens": pieces, "scores": scores, "token_type": kinds, "bos_token_id": 1}
    ours = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json.tokenizer_json(fields)))
    for text in ("the man and the guild", "It's naïve  and   long, paying 日本 😀", "a", " in  an inn "):
        got = ours.encode(text).ids
        assert got == [1] + sentencepiece_ids(text, pieces, scores)
        assert ours.decode(got) == text


def test_unknown_tokenizers_are_named():
    with pytest.raises(tokenizer_json.UnknownTokenizer, match="'mystery'; known: gpt-2, llama-bpe, qwen2, smollm"):
        tokenizer_json.tokenizer_json({"model": "gpt2", "pre": "mystery", "tokens": []})
    with pytest.raises(tokenizer_json.UnknownTokenizer, match="'bert'"):
        tokenizer_json.tokenizer_json({"model": "bert", "tokens": []})


def test_configs(tmp_path):
    fields = [("add_tokenizer_model", "gpt2"), ("add_tokenizer_pre", "smollm"),
              ("add_token_list", ["<|e|>"] + [chr(33 + i) for i in range(49)]), ("add_token_types", [3] + [1] * 49),
              ("add_token_merges", ["! #"]), ("add_bos_token_id", 0), ("add_eos_token_id", 0), ("add_eot_token_id", 4),
              ("add_chat_template", "{{ '<|im_start|>' }}")]
    oracle.write_gguf(tmp_path / "m.gguf", oracle.random_weights(1), fields)
    converter.convert(str(tmp_path / "m.gguf"), str(tmp_path / "out"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"], config["chat_template_name"]) == (0, [0, 4], "chatml")
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["eos_token"] == "<|e|>"
    assert (tmp_path / "out" / "tokenizer.json").exists()
