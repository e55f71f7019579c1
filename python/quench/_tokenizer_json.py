"""Hugging Face's tokenizer.json from the tokenizer stored in a GGUF file.

Byte-level BPE (`tokenizer.ggml.model` = gpt2) is written for the ways of splitting text named in PRE_TOKENIZERS;
sentencepiece's BPE (`llama`) gets its merges from the pieces' scores.
"""

import json

# How text is cut into words before the merges: a list of pre-tokenizers in tokenizer.json's own words.
_CASELESS_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"


def _byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(digits):
    """The split of the newer models; `digits` says how many digits make a word."""
    words = r"[^\r\n\p{L}\p{N}]?\p{L}+"
    rest = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    pattern = "|".join([_CASELESS_CONTRACTIONS, words, digits, rest])
    return [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            _byte_level(False)]


PRE_TOKENIZERS = {
    "gpt-2": [_byte_level(True)],
    "smollm": [{"type": "Digits", "individual_digits": True}, _byte_level(True)],
    "llama-bpe": _split(r"\p{N}{1,3}"),
    "qwen2": _split(r"\p{N}"),
}
_SAME_AS = {"gpt2": "gpt-2", "llama3": "llama-bpe", "llama-v3": "llama-bpe", "deepseek-r1-qwen": "qwen2"}

# Token types of GGUF.
_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_SPACE = "\u2581"


class UnknownTokenizer(ValueError):
    """The file's tokenizer is of a kind that is not written here."""


def tokenizer_json(fields):
    """Returns the content of tokenizer.json as a dict.

    `fields` holds GGUF's keys without "tokenizer.ggml."; tokens and model are needed, the rest is optional. Raises
    UnknownTokenizer, with what would be accepted, for another model or way of splitting.
    """
    kind = fields.get("model")
    if kind == "gpt2":
        parts = _byte_level_bpe(fields)
    elif kind == "llama":
        parts = _sentencepiece_bpe(fields)
    else:
        raise UnknownTokenizer(f"tokenizer.ggml.model is {kind!r}; known: 'gpt2' (byte-level BPE), 'llama'")
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": _added_tokens(fields), **parts}


def write_tokenizer(fields, path):
    """Writes tokenizer.json to `path`."""
    content = tokenizer_json(fields)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.write("\n")


def _added_tokens(fields):
    """Control tokens, and user-defined ones, are found in the text before anything else happens to it."""
    types = fields.get("token_type") or []
    specials = {_CONTROL: True, _USER_DEFINED: False}
    if fields.get("model") == "llama":
        specials[_UNKNOWN] = True
    return [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": specials[kind]}
            for i, (token, kind) in enumerate(zip(fields["tokens"], types)) if kind in specials]


def _bpe(vocabulary, merges, **options):
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocabulary, "merges": merges, **options}


def _byte_level_bpe(fields):
    name = fields.get("pre", "gpt-2")
    name = _SAME_AS.get(name, name)
    if name not in PRE_TOKENIZERS:
        raise UnknownTokenizer(f"tokenizer.ggml.pre is {name!r}; known: {', '.join(sorted(PRE_TOKENIZERS))}")
    splits = PRE_TOKENIZERS[name]
    vocabulary = {token: i for i, token in enumerate(fields["tokens"])}
    merges = [merge.split(" ", 1) for merge in fields.get("merges") or []]
    return {
        "normalizer": {"type": "NFC"} if name == "qwen2" else None,
        "pre_tokenizer": splits[0] if len(splits) == 1 else {"type": "Sequence", "pretokenizers": splits},
        "post_processor": _begin_with_bos(fields, default=name == "llama-bpe"),
        "decoder": _byte_level(True),
        # Words that are tokens of their own are not built from merges there.
        "model": _bpe(vocabulary, merges, ignore_merges=name == "llama-bpe"),
    }


def _sentencepiece_bpe(fields):
    tokens = fields["tokens"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    types = fields.get("token_type") or [1] * len(tokens)
    unknown = next((token for token, kind in zip(tokens, types) if kind == _UNKNOWN), None)
    normalizers = [{"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}]
    decoders = [{"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}]
    if fields.get("add_space_prefix", True):
        normalizers.insert(0, {"type": "Prepend", "prepend": _SPACE})
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "post_processor": _begin_with_bos(fields, default=True),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _bpe(vocabulary, _merges_from_scores(vocabulary, fields.get("scores") or [0.0] * len(tokens)),
                      unk_token=unknown, fuse_unk=True, byte_fallback="<0x00>" in vocabulary),
    }


def _merges_from_scores(vocabulary, scores):
    """All pairs of pieces that make a piece; the piece of the highest score first, as sentencepiece merges."""
    pairs = []
    for piece, i in vocabulary.items():
        for cut in range(1, len(piece)):
            left, right = vocabulary.get(piece[:cut]), vocabulary.get(piece[cut:])
            if left is not None and right is not None:
                pairs.append((-scores[i], i, left, right, cut, piece))
    pairs.sort()
    return [[piece[:cut], piece[cut:]] for *_, cut, piece in pairs]


def _begin_with_bos(fields, default):
    """The post-processor that puts the beginning-of-sequence token in front, if the model wants one."""
    bos = fields.get("bos_token_id")
    if bos is None or not fields.get("add_bos_token", default):
        return None
    token = fields["tokens"][bos]
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    a, b = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    second = {"SpecialToken": {"id": token, "type_id": 1}}
    return {"type": "TemplateProcessing", "single": [first, a], "pair": [first, a, second, b],
            "special_tokens": {token: {"id": token, "ids": [int(bos)], "tokens": [token]}}}
