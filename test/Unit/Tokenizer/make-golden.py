#!/usr/bin/env python3
"""Writes Inputs/: small tokenizers and what the package `tokenizers` does with them.

    pip install tokenizers==0.23.3
    test/Unit/Tokenizer/make-golden.py

Inputs/NAME.json is a tokenizer, Inputs/NAME.golden.json its results: texts with
their ids without and with special tokens, and lists of ids with their texts.
"""
import json
import pathlib
import random

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

# The beginning of Alice's Adventures in Wonderland, which is in the public domain.
PROSE = """Alice was beginning to get very tired of sitting by her sister on the bank, and of having
nothing to do: once or twice she had peeped into the book her sister was reading, but it had no
pictures or conversations in it, "and what is the use of a book," thought Alice "without pictures
or conversations?" So she was considering in her own mind (as well as she could, for the hot day
made her feel very sleepy and stupid), whether the pleasure of making a daisy-chain would be worth
the trouble of getting up and picking the daisies, when suddenly a White Rabbit with pink eyes ran
close by her. There was nothing so very remarkable in that; nor did Alice think it so very much out
of the way to hear the Rabbit say to itself, "Oh dear! Oh dear! I shall be late!" Don't, can't, I'm,
we'll, they've 1865 and 12345, naïve café, résumé, déjà vu."""

TEXTS = ["", " ", "a", " a", "  a  b ", "\n\n\tx\r\n", "Alice was beginning", "she'll DON'T I'M we'Ve",
         "1 22 333 4444 1234567", "naïve café e\u0301", "日本語のテキスト", "한국어 \u1112\u1161\u11ab",
         "👍🏽 👨\u200d👩\u200d👧", "</s>", "<s>Alice</s> x", "a <|end|> b", "a<|end|>", "  <mask>  the word",
         "swords word words", "▁▁ ▁a", "\u00a0\u3000\u2028x", "İSTANBUL ß ﬁ ½ ² Ⅷ", "'ſ 'ſs", "\ufffd\u0000\x7f",
         "Hello,   world!!  \n \n end", "\"quoted\" (parens) [brackets] {braces} -- dashes... etc.",
         "x" * 40, "the the the", "हिन्दी العربية", "\U0010ffff\ue000", PROSE[:200]]

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
HERE = pathlib.Path(__file__).resolve().parent / "Inputs"


def byte_level(pre_tokenizer, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([PROSE], trainers.BpeTrainer(
        vocab_size=420, show_progress=False, special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens(["<|end|>", AddedToken("<mask>", lstrip=True, rstrip=True)])
    tokenizer.add_tokens([AddedToken("word", single_word=True)])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])])
    return tokenizer


def pieces():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    tokenizer.train_from_iterator([PROSE], trainers.BpeTrainer(
        vocab_size=440, show_progress=False, special_tokens=names))
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = document["added_tokens"][:3]
    document["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    return tokenizer


def llama2():
    tokenizer = pieces()
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def mistral():
    tokenizer = pieces()
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", False)
    return tokenizer


def bert():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator([PROSE], trainers.WordPieceTrainer(
        vocab_size=200, show_progress=False,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


TOKENIZERS = {
    "gpt2": lambda: byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "smollm2": lambda: byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])),
    "llama3": lambda: byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        ignore_merges=True),
    "llama2": llama2, "mistral": mistral, "bert": bert,
}


def write(path, document, escaped):
    text = json.dumps(document, ensure_ascii=escaped, separators=(",", ":")) + "\n"
    path.write_text(text, encoding="utf-8")


def main():
    HERE.mkdir(exist_ok=True)
    for name, make in TOKENIZERS.items():
        document = json.loads(make().to_str())
        write(HERE / f"{name}.json", document, True)
        tokenizer = Tokenizer.from_file(str(HERE / f"{name}.json"))
        rng = random.Random(1)
        size = tokenizer.get_vocab_size()
        encode = [[t, tokenizer.encode(t, add_special_tokens=False).ids, tokenizer.encode(t).ids]
                  for t in TEXTS]
        lists = [ids for _, _, ids in encode if ids]
        lists += [[rng.randrange(size) for _ in range(rng.randrange(1, 12))] for _ in range(40)]
        if name in ("llama2", "mistral"):
            lists += [[0xE2 + 3, 0x96 + 3, 0x81 + 3], [0xE2 + 3, 0x96 + 3], [0xF0 + 3, 300],
                      [0x0A + 3, 1, 0x41 + 3, 0xC3 + 3, 0xA9 + 3, 400]]
        decode = [[ids, tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids)]
                  for ids in lists]
        write(HERE / f"{name}.golden.json",
              {"size": size, "encode": encode, "decode": decode}, False)


if __name__ == "__main__":
    main()
