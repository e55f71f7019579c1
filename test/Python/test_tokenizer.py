"""Compares QuenchTokenizer with the Python package `tokenizers`.

The texts are those of the shared folder (QUENCH_SHARED, or ../shared beside the
repository) where they are there, and made-up ones. QUENCH_TOKENIZER_JSON may
name more tokenizer.json files, separated by colons.
"""
import copy
import json
import os
import pathlib
import random
import struct
import subprocess
import time

import pytest

tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is the oracle")

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("QUENCH_BUILD", ROOT / "build"))
SHARED = pathlib.Path(os.environ.get("QUENCH_SHARED", ROOT.parent / "shared"))
TOOL = BUILD / "test" / "Unit" / "QuenchTokenizeTool"

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built")

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
          r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"
             r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
             r"\s*[\r\n]+|\s+(?!\S)|\s+")


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def split_text(text, behavior):
    return {"type": "Split", "pattern": {"String": text}, "behavior": behavior, "invert": False}


def byte_level(regex, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True,
            "use_regex": regex}


def sequence(kind, *parts):
    key = {"pre": "pretokenizers", "norm": "normalizers", "dec": "decoders"}[kind]
    return {"type": "Sequence", key: list(parts)}


def metaspace(**options):
    return {"type": "Metaspace", "replacement": "▁", **options}


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


LLAMA2_NORMALIZER = sequence("norm", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"))
LLAMA2_DECODER = sequence("dec", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                          {"type": "Strip", "content": " ", "start": 1, "stop": 0})
BYTES = {"decoder": byte_level(True)}
PUNCT = {"type": "Punctuation", "behavior": "Isolated"}

# name: (base, changes of the json)
VARIANTS = {
    "gpt2": ("bytes", {"pre_tokenizer": byte_level(True)}),
    "gpt2-prefix": ("bytes", {"pre_tokenizer": byte_level(True, True)}),
    "smollm2": ("bytes", {"pre_tokenizer": sequence(
        "pre", {"type": "Digits", "individual_digits": True}, byte_level(True))}),
    "digits": ("bytes", {"pre_tokenizer": sequence(
        "pre", {"type": "Digits", "individual_digits": False}, byte_level(False))}),
    "gpt2-split": ("bytes", {"pre_tokenizer": sequence("pre", split(GPT2), byte_level(False))}),
    "llama3": ("bytes", {"pre_tokenizer": sequence("pre", split(LLAMA3), byte_level(False)),
                         "ignore_merges": True}),
    "qwen2": ("bytes", {"pre_tokenizer": sequence("pre", split(QWEN2), byte_level(False)),
                        "normalizer": {"type": "NFC"}}),
    "cl100k": ("bytes", {"pre_tokenizer": sequence("pre", split(CL100K, "Removed", True),
                                                   byte_level(False))}),
    "o200k": ("bytes", {"pre_tokenizer": sequence("pre", split(O200K), byte_level(False))}),
    "deepseek3": ("bytes", {"pre_tokenizer": sequence(
        "pre", split(r"\p{N}{1,3}"), split(r"[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK3),
        byte_level(False))}),
    "no-split": ("bytes", {"pre_tokenizer": byte_level(False)}),
    "byte-normalizer": ("bytes", {"pre_tokenizer": None, "normalizer": {"type": "ByteLevel"}}),
    "nfd": ("bytes", {"pre_tokenizer": byte_level(True), "normalizer": {"type": "NFD"}}),
    "nfkc": ("bytes", {"pre_tokenizer": byte_level(True), "normalizer": {"type": "NFKC"}}),
    "nfkd": ("bytes", {"pre_tokenizer": byte_level(True), "normalizer": {"type": "NFKD"}}),
    "lowercase": ("bytes", {"pre_tokenizer": byte_level(True),
                            "normalizer": sequence("norm", {"type": "Lowercase"},
                                                   {"type": "Strip", "strip_left": True,
                                                    "strip_right": True})}),
    "whitespace": ("bytes", {"pre_tokenizer": sequence("pre", {"type": "Whitespace"},
                                                       byte_level(False))}),
    "whitespace-split": ("bytes", {"pre_tokenizer": sequence(
        "pre", {"type": "WhitespaceSplit"}, PUNCT, byte_level(False, True))}),
    "previous": ("bytes", {"pre_tokenizer": sequence(
        "pre", split(r"\s", "MergedWithPrevious"), split_text(",", "MergedWithNext"),
        split_text("th", "Contiguous"), split_text("e", "Removed"), byte_level(False))}),
    "next": ("bytes", {"pre_tokenizer": sequence(
        "pre", split(r"(?i)[aeiou]+?|\b", "MergedWithNext"), byte_level(False))}),
    "llama2": ("pieces", {"normalizer": LLAMA2_NORMALIZER, "decoder": LLAMA2_DECODER}),
    "mistral": ("pieces", {"normalizer": None, "decoder": LLAMA2_DECODER,
                           "pre_tokenizer": metaspace(prepend_scheme="first", split=False)}),
    "metaspace": ("pieces", {"decoder": metaspace(prepend_scheme="always", split=True),
                             "pre_tokenizer": metaspace(prepend_scheme="always", split=True)}),
    "metaspace-first": ("pieces", {"decoder": metaspace(prepend_scheme="first", split=True),
                                   "pre_tokenizer": metaspace(prepend_scheme="first",
                                                              split=True)}),
    "metaspace-never": ("pieces", {"decoder": metaspace(prepend_scheme="never"),
                                   "pre_tokenizer": metaspace(prepend_scheme="never")}),
    "metaspace-old": ("pieces", {"decoder": metaspace(add_prefix_space=True, str_rep="▁"),
                                 "pre_tokenizer": metaspace(add_prefix_space=True,
                                                            str_rep="▁")}),
    "gemma": ("pieces", {"normalizer": replace(" ", "▁"),
                         "pre_tokenizer": split_text(" ", "MergedWithPrevious"),
                         "decoder": sequence("dec", replace("▁", " "), {"type": "ByteFallback"},
                                             {"type": "Fuse"})}),
    "unknown": ("pieces", {"normalizer": LLAMA2_NORMALIZER, "decoder": None,
                           "byte_fallback": False, "fuse_unk": False}),
    "fused-unknown": ("pieces", {"normalizer": LLAMA2_NORMALIZER, "decoder": LLAMA2_DECODER,
                                 "byte_fallback": False, "fuse_unk": True}),
    "no-unknown": ("pieces", {"normalizer": LLAMA2_NORMALIZER, "byte_fallback": False,
                              "unk_token": None}),
    "strip-stop": ("pieces", {"normalizer": replace(" ", "▁"), "decoder": sequence(
        "dec", replace("▁", " "), {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 2, "stop": 2})}),
    "bert": ("words", {}),
    "bert-cased": ("words", {"normalizer": {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
        "strip_accents": None, "lowercase": False}}),
    "clip": ("suffix", {}),
}


def torture(seed=1, count=60):
    """Texts of everything that is hard, without a pattern."""
    rng = random.Random(seed)
    parts = ["'s", "'T", "'ſ", "'LL", "don't", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000",
             "\u2028", "a", "B", "é", "e\u0301", "ﬁ", "ß", "İ", "1", "23", "456", "７", "²", "½",
             "Ⅷ", ".", ",,", "...", "!?", "-", "—", "_", "▁", "▁▁", "<s>", "</s>", "<unk>",
             "<|im_end|>", "<|im", "<0x0A>", "日本語", "カタカナ", "ひらがな", "한국어",
             "\u1112\u1161\u11ab", "العربية", "हिन्दी", "ไทย", "👍🏽", "👨\u200d👩\u200d👧", "🇩🇪",
             "\u200b", "\ufeff", "\u0000", "\ufffd", "\x7f", "\x1c", "𝔘𝔫𝔦", "\U0010ffff",
             "q\u0323\u0307", "Å", "Ω", "ǆ", "[CLS]", "[MASK]", "the", " the", "The ", "word"]
    texts = ["", " ", "\n", "a", " a", "▁", "  a  b", "</s>", "<s>a", "a <s> b", " <s>"]
    for _ in range(count):
        texts.append("".join(rng.choice(parts) for _ in range(rng.randrange(1, 60))))

    def character():
        limit = rng.choice([0x80, 0x100, 0x800, 0x3000, 0x10000, 0x20000, 0x110000])
        code = rng.randrange(limit)
        return "x" if 0xD800 <= code < 0xE000 else chr(code)
    for _ in range(count):
        texts.append("".join(character() for _ in range(rng.randrange(1, 200))))
    return texts


def corpora():
    found = {}
    for name in ["wikitext-2-raw/wiki.test.raw", "tinyshakespeare/input.txt"]:
        path = SHARED / "data" / name
        if path.exists():
            found[name] = path.read_bytes().decode()
    return found


CORPORA = corpora()


def training_text():
    if CORPORA:
        return [text[:300_000] for text in CORPORA.values()] + torture(7, 200)
    rng = random.Random(3)
    words = ["".join(rng.choice("etaoinshrdlu") for _ in range(rng.randrange(1, 9)))
             for _ in range(2000)]
    return [" ".join(rng.choice(words) for _ in range(40)) + ".\n" for _ in range(2000)] + \
        torture(7, 200)


@pytest.fixture(scope="session")
def bases():
    """One trained tokenizer of each kind, as json."""
    from tokenizers import models, normalizers, pre_tokenizers, processors, trainers, AddedToken
    texts = training_text()
    made = {}

    def keep(name, tokenizer):
        made[name] = json.loads(tokenizer.to_str())

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=3000, show_progress=False, initial_alphabet=alphabet,
        special_tokens=["<s>", "</s>", "<|im_end|>"]))
    tokenizer.add_tokens([AddedToken("word", single_word=True, normalized=True),
                          AddedToken(" the", lstrip=True, normalized=False),
                          AddedToken("...", rstrip=True, normalized=False)])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(),
        processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])])
    keep("bytes", tokenizer)

    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True,
                                                byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=3000, show_progress=False, special_tokens=pieces, limit_alphabet=120))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    keep("pieces", tokenizer)
    made["pieces"]["pre_tokenizer"] = None
    # Only the first three are tokens of their own in a text.
    made["pieces"]["added_tokens"] = made["pieces"]["added_tokens"][:3]

    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(
        vocab_size=2000, show_progress=False, limit_alphabet=200,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    keep("words", tokenizer)

    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>",
                                                continuing_subword_prefix="~"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = tokenizers.decoders.BPEDecoder()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=2000, show_progress=False, special_tokens=["<unk>"], limit_alphabet=100,
        end_of_word_suffix="</w>", continuing_subword_prefix="~"))
    keep("suffix", tokenizer)
    return made


def build(bases, name):
    base, changes = VARIANTS[name]
    document = copy.deepcopy(bases[base])
    if base == "bytes":
        document.update(BYTES)
    for key, value in changes.items():
        (document["model"] if key in document["model"] else document)[key] = value
    return document


def run(mode, path, documents):
    data = b"".join(struct.pack("<Q", len(d)) + d for d in documents)
    result = subprocess.run([TOOL, mode, path], input=data, capture_output=True, timeout=300)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def encode(path, texts, special):
    answer = run("encode-special" if special else "encode", path, [t.encode() for t in texts])
    numbers = struct.unpack(f"<{len(answer) // 4}i", answer)
    lists, at = [], 0
    while at < len(numbers):
        lists.append(list(numbers[at + 1:at + 1 + numbers[at]]))
        at += 1 + numbers[at]
    return lists


def decode(path, lists, skip):
    documents = [struct.pack(f"<{len(ids)}i", *ids) for ids in lists]
    answer = run("decode-skip" if skip else "decode", path, documents)
    texts, at = [], 0
    while at < len(answer):
        size = struct.unpack_from("<Q", answer, at)[0]
        texts.append(answer[at + 8:at + 8 + size].decode())
        at += 8 + size
    return texts


def first_difference(texts, mine, theirs):
    for text, a, b in zip(texts, mine, theirs):
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            return (f"{text[:200]!r}... differs at {at}: {a[max(0, at - 3):at + 6]} "
                    f"instead of {b[max(0, at - 3):at + 6]}")
    return None


def decode_with_oracle(oracle, ids, skip):
    """The oracle's text, or None where it panics (Strip on an empty token does)."""
    try:
        return oracle.decode(ids, skip_special_tokens=skip)
    except BaseException as error:  # pylint: disable=broad-except
        if type(error).__name__ != "PanicException":
            raise
        return None


def compare(path, texts, seed=0, both=True):
    """Encodes and decodes; without `both` only with special tokens."""
    oracle = tokenizers.Tokenizer.from_file(str(path))
    oracle.no_truncation()
    oracle.no_padding()
    for special in [False, True] if both else [True]:
        theirs = [oracle.encode(t, add_special_tokens=special).ids for t in texts]
        mine = encode(path, texts, special)
        assert len(mine) == len(theirs)
        assert mine == theirs, first_difference(texts, mine, theirs)
    rng = random.Random(seed)
    size = oracle.get_vocab_size()
    # Random ids make broken characters and bytes.
    lists = theirs + [[rng.randrange(size) for _ in range(rng.randrange(1, 80))]
                      for _ in range(200)]
    lists += [[rng.choice([0, 1, 2, 3, size - 1, size + 5] + list(range(3, 259)))
               for _ in range(rng.randrange(1, 12))] for _ in range(300)]
    lists = [ids for ids in lists if ids]
    for skip in [False, True] if both else [True]:
        expected = [(ids, decode_with_oracle(oracle, ids, skip)) for ids in lists]
        expected = [(ids, text) for ids, text in expected if text is not None]
        inputs, texts = [ids for ids, _ in expected], [text for _, text in expected]
        assert len(inputs) > 100
        found = decode(path, inputs, skip)
        assert found == texts, first_difference(map(str, inputs), found, texts)


def write(tmp_path, document):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", VARIANTS)
def test_equals_tokenizers(bases, name, tmp_path):
    texts = torture() + [text[400_000:460_000] for text in CORPORA.values()]
    compare(write(tmp_path, build(bases, name)), texts)


@pytest.mark.parametrize("name", ["smollm2", "llama3", "llama2", "mistral", "bert"])
@pytest.mark.skipif(not CORPORA, reason="the shared texts are not there")
def test_whole_texts(bases, name, tmp_path):
    path = write(tmp_path, build(bases, name))
    compare(path, list(CORPORA.values()), both=False)
    start = time.monotonic()
    encode(path, [next(iter(CORPORA.values()))], False)
    assert time.monotonic() - start < 4, "1 MB takes longer than 4 s"


@pytest.mark.parametrize("merges", ["text", "pairs"])
def test_forms_of_merges(bases, merges, tmp_path):
    document = build(bases, "gpt2")
    pairs = [m.split(" ") if isinstance(m, str) else m for m in document["model"]["merges"]]
    document["model"]["merges"] = \
        [" ".join(p) for p in pairs] if merges == "text" else pairs
    compare(write(tmp_path, document), torture(5))


@pytest.mark.parametrize("path", os.environ.get("QUENCH_TOKENIZER_JSON", "").split(":"))
def test_given_files(path):
    if not path:
        pytest.skip("QUENCH_TOKENIZER_JSON names no files")
    compare(path, torture() + list(CORPORA.values()))


def test_all_characters(bases, tmp_path):
    """Every code point, alone between letters: the classes of the patterns."""
    codes = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
    texts = ["".join(f"a{chr(c)}" for c in codes[i:i + 4000])
             for i in range(0, len(codes), 4000)]
    path = write(tmp_path, build(bases, "o200k"))
    oracle = tokenizers.Tokenizer.from_file(str(path))
    mine = encode(path, texts, False)
    theirs = [oracle.encode(t, add_special_tokens=False).ids for t in texts]
    assert mine == theirs, first_difference(texts, mine, theirs)


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_normal_forms(bases, form, tmp_path):
    rng = random.Random(2)
    marks = [c for c in range(0x300, 0x370)] + [0x5B0, 0x93C, 0x3099, 0x1161, 0x11A8, 0x1175]
    codes = [c for c in range(1, 0x30000) if not 0xD800 <= c < 0xE000]
    texts = ["".join(chr(rng.choice(codes)) + "".join(chr(rng.choice(marks))
                                                      for _ in range(rng.randrange(4)))
                     for _ in range(500)) for _ in range(60)]
    texts += ["".join(map(chr, codes[i:i + 1000])) for i in range(0, len(codes), 1000)]
    document = build(bases, "gpt2")
    document["normalizer"] = {"type": form}
    path = write(tmp_path, document)
    oracle = tokenizers.Tokenizer.from_file(str(path))
    mine = encode(path, texts, False)
    theirs = [oracle.encode(t, add_special_tokens=False).ids for t in texts]
    assert mine == theirs, first_difference(texts, mine, theirs)
