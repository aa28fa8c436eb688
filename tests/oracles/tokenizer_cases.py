"""Writes tests/text/tokenizer_cases.json: hard strings with the ids and decoded texts that Hugging
Face's `tokenizers` and `sentencepiece` give them, for tiny tokenizers made here, which together use
every kind of component. tokenizer_compare.py runs the same tokenizers on much more text.

Run from the repository root:  .venv/bin/python tests/oracles/tokenizer_cases.py
"""

import base64
import json
import random
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers,
                        processors)
from tokenizers.models import BPE, Unigram, WordLevel, WordPiece

GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CORPUS = ["the cat sat on the mat", "the hat of the cat", "hello hello world", "it's the cat's mat",
          "1234 5678 2024", "sat hat mat cat", "ABC Abc abc", "  two  spaces", "élan éclair naïve",
          "привет мир", "中文字符 中文", "a.b.c, d!", "\n\nlines\n", "don't won't can't"]
FIXTURE = [
    "", " ", "\t\n ", "  the   cat ", "The CAT's MAT, it's 12345", "hello\nworld\r\n\r\nagain",
    "a\u00a0b\u3000c\u2028d\u200be\ufeff", "é e\u0301 É ﬁ ½ ①", "привет, 中文字符 に 한", "😀 👩‍👧 ✅",
    "▁ ▁▁the▁cat", "<s>the cat</s><ctl>", "<tok> the <tok>cat a<word> <word>", "[MASK] the", "ǅ ß İ ſ K",
    "?!.. -- '' \"", "aaaathe<0x41><0xZZ>", "᠎x ꟋꟚ 𞓐 क्षि \u0000\u0007",
]


def byte_alphabet():
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def train_bpe(pieces, alphabet, size, join=""):
    """Merges by frequency; `pieces` are words as lists of symbols."""
    words = [list(piece) for piece in pieces]
    vocab = {symbol: i for i, symbol in enumerate(alphabet)}
    merges = []
    while len(vocab) < size:
        pairs = {}
        for word in words:
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + 1
        if not pairs:
            break
        pair = max(sorted(pairs), key=pairs.get)
        merged = pair[0] + (pair[1][len(join):] if join else pair[1])
        merges.append(pair)
        vocab.setdefault(merged, len(vocab))
        for k, word in enumerate(words):
            out, i = [], 0
            while i < len(word):
                if tuple(word[i:i + 2]) == pair:
                    out.append(merged)
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            words[k] = out
    return vocab, merges


def byte_level_bpe(regex, **options):
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex is None)
    if regex:
        split = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(regex), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    learnt = pre_tokenizers.ByteLevel(add_prefix_space=False)  # so that all share a vocabulary
    pieces = [piece for text in CORPUS for piece, _ in learnt.pre_tokenize_str(text)]
    vocab, merges = train_bpe(pieces, byte_alphabet(), 290)
    tokenizer = Tokenizer(BPE(vocab, merges, **options))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def metaspace_bpe(**options):
    pieces = ["▁" + text.replace(" ", "▁") for text in CORPUS]
    letters = sorted(set("".join(pieces)) - set("中éм"))
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] * options.get(
        "byte_fallback", False)
    known = [word for piece in pieces for word in cut(piece) if set(word) <= set(letters)]
    vocab, merges = train_bpe(known,
                              specials + letters, len(specials) + len(letters) + 60)
    return Tokenizer(BPE(vocab, merges, unk_token="<unk>", **options))


def cut(text):
    return [word for word, _ in pre_tokenizers.Metaspace(
        prepend_scheme="never").pre_tokenize_str(text)]


def unigram(**options):
    rng = random.Random(5)
    words = sorted({w for text in CORPUS for w in cut(text)} | set("".join(CORPUS)) | {"▁"})
    parts = sorted({w[i:j] for w in words for i in range(len(w)) for j in range(i + 1, len(w) + 1)})
    pieces = [p for p in parts if " " not in p and "中" not in p and rng.random() < 0.6]
    vocab = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    vocab += [(f"<0x{i:02X}>", 0.0) for i in range(256)] * options.get("byte_fallback", False)
    vocab += [(piece, -round(rng.uniform(1, 12), 2)) for piece in pieces]
    return Tokenizer(Unigram(vocab, 0, options.get("byte_fallback", False)))


def with_parts(tokenizer, normalizer=None, pre_tokenizer=None, decoder=None, post=None, added=()):
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder:
        tokenizer.decoder = decoder
    if post:
        tokenizer.post_processor = post
    tokenizer.add_tokens(list(added))
    return tokenizer


def words(model=WordLevel, lower=False):
    split = pre_tokenizers.Whitespace()
    seen = sorted({w for text in CORPUS for w, _ in split.pre_tokenize_str(text)})
    vocab = {w: i for i, w in enumerate(["[UNK]", *seen, *sorted(set("".join(CORPUS)) - {" "})])}
    return dict.fromkeys([*vocab, *("##" + c for c in sorted(set("".join(seen))))])


def word_level():
    return Tokenizer(WordLevel({w: i for i, w in enumerate(words())}, unk_token="[UNK]"))


def word_piece():
    return Tokenizer(WordPiece({w: i for i, w in enumerate(words())}, unk_token="[UNK]",
                               max_input_chars_per_word=20))


# What a tiny SentencePiece table replaces: code points, in hexadecimal.
RULES = "FB01\t66 69\nA0\t20\n3000\t20\n9\t20\nA\t20\nBD\t31 2044 32\n65 301\tE9\n1F600\t3A 29\n7\t\n"


def sentencepiece_model(kind, **options):
    """A tiny model; its normalizer is RULES."""
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder, "rules.tsv")
        rules.write_text(RULES)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 4), model_prefix=f"{folder}/m", model_type=kind,
            normalization_rule_tsv=str(rules), hard_vocab_limit=False, minloglevel=2,
            num_threads=1, character_coverage=0.985, **options)
        return Path(folder, "m.model").read_bytes()


def sentencepiece_models():
    return {
        "bpe": sentencepiece_model("bpe", vocab_size=100, user_defined_symbols=["<tok>", "▁▁"],
                                   remove_extra_whitespaces=False),
        "bpe-bytes": sentencepiece_model("bpe", vocab_size=340, byte_fallback=True,
                                         split_digits=True),
        "unigram": sentencepiece_model("unigram", vocab_size=90, user_defined_symbols=["<tok>", "at"],
                                       control_symbols=["<ctl>"]),
        "unigram-bytes": sentencepiece_model("unigram", vocab_size=330, byte_fallback=True,
                                             add_dummy_prefix=False,
                                             remove_extra_whitespaces=False),
        "space-suffix": sentencepiece_model("unigram", vocab_size=90,
                                            treat_whitespace_as_suffix=True),
    }


def protobuf_field(message, wanted):
    """The last bytes field of that number."""
    def varint(at):
        value = shift = 0
        while True:
            byte = message[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    at, found = 0, b""
    while at < len(message):
        tag, at = varint(at)
        if tag & 7 == 0:
            _, at = varint(at)
            continue
        size, at = varint(at) if tag & 7 == 2 else (4 if tag & 7 == 5 else 8, at)
        if tag >> 3 == wanted:
            found = message[at:at + size]
        at += size
    return found


def charsmap():
    """The table of RULES as tokenizer.json has it."""
    normalizer = protobuf_field(sentencepiece_models()["unigram"], 3)
    return base64.b64encode(protobuf_field(normalizer, 2)).decode()


def llama_template():
    return processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B",
                                         special_tokens=[("<s>", 1)])


ADDED = [AddedToken("<tok>", lstrip=True, rstrip=True, normalized=False),
         AddedToken("<word>", single_word=True, normalized=True)]


def byte_level_group():
    roberta = byte_level_bpe(None)
    roberta.add_special_tokens([AddedToken("<s>"), AddedToken("</s>"),
                                AddedToken("[MASK]", lstrip=True)])
    roberta.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    ids = roberta.get_vocab()
    roberta.post_processor = processors.RobertaProcessing(
        ("</s>", ids["</s>"]), ("<s>", ids["<s>"]), trim_offsets=True, add_prefix_space=True)
    llama3 = with_parts(byte_level_bpe(LLAMA3, ignore_merges=True), added=ADDED)
    llama3.add_special_tokens(["<s>"])
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<s> $A", special_tokens=[
            ("<s>", llama3.token_to_id("<s>"))])])
    spelled = byte_level_bpe(None)
    spelled.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.ByteLevel()])
    spelled.pre_tokenizer = pre_tokenizers.Split(Regex("Ġ?[^Ġ]+"), "isolated")
    return {"gpt2": with_parts(byte_level_bpe(None), added=ADDED), "roberta": roberta,
            "llama3": llama3, "o200k": with_parts(byte_level_bpe(O200K), normalizers.NFC()),
            "byte-normalizer": spelled}


def metaspace_group():
    llama = with_parts(
        metaspace_bpe(byte_fallback=True, fuse_unk=True),
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        decoder=decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                   decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        post=llama_template(), added=ADDED)
    llama.add_special_tokens(["<s>", "</s>", "<unk>"])
    gemma = with_parts(metaspace_bpe(byte_fallback=True), normalizers.Replace(" ", "▁"),
                       pre_tokenizers.Split(" ", "merged_with_previous"), decoders.Sequence([
                           decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]))
    first = with_parts(metaspace_bpe(fuse_unk=True),
                       pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
                       decoder=decoders.Metaspace(prepend_scheme="first"), added=ADDED)
    never = with_parts(metaspace_bpe(), normalizers.Strip(),
                       pre_tokenizers.Metaspace(prepend_scheme="never"),
                       decoders.Metaspace(prepend_scheme="never"))
    t5 = with_parts(unigram(), normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(),
                                                     normalizers.Replace(Regex(" {2,}"), " ")]),
                    pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                             pre_tokenizers.Metaspace()]),
                    decoders.Metaspace(), processors.TemplateProcessing(
                        single="$A </s>", special_tokens=[("</s>", 2)]), ADDED)
    charmap = with_parts(unigram(), normalizers.Sequence([
        normalizers.Precompiled(base64.b64decode(charsmap())), normalizers.Strip(),
        normalizers.Replace(Regex(" {2,}"), "▁")]), pre_tokenizers.Metaspace(),
        decoders.Metaspace())
    bytes_ = with_parts(unigram(byte_fallback=True), normalizers.Strip(left=True, right=False),
                        pre_tokenizers.Metaspace(prepend_scheme="first"), decoders.Sequence([
                            decoders.ByteFallback(), decoders.Metaspace()]))
    return {"llama": llama, "gemma": gemma, "metaspace-first": first, "metaspace-never": never,
            "t5": t5, "unigram-bytes": bytes_, "charsmap": charmap}


def suffix_bpe():
    pieces = [list(w[:-1]) + [w[-1] + "</w>"] for text in CORPUS for w in text.lower().split()]
    symbols = sorted({s for piece in pieces for s in piece} | {s[0] for p in pieces for s in p})
    vocab, merges = train_bpe(pieces, ["<unk>", *symbols], len(symbols) + 50)
    tokenizer = Tokenizer(BPE(vocab, merges, unk_token="<unk>", end_of_word_suffix="</w>"))
    return with_parts(tokenizer, normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(),
                                                       normalizers.StripAccents()]),
                      pre_tokenizers.Whitespace(), decoders.BPEDecoder())


def prefix_bpe():
    pieces = [[w[0]] + ["##" + c for c in w[1:]] for text in CORPUS for w in text.split()]
    symbols = sorted({s for piece in pieces for s in piece})
    vocab, merges = train_bpe(pieces, ["<unk>", *symbols], len(symbols) + 50, "##")
    tokenizer = Tokenizer(BPE(vocab, merges, unk_token="<unk>", continuing_subword_prefix="##",
                              fuse_unk=True))
    return with_parts(tokenizer, pre_tokenizer=pre_tokenizers.WhitespaceSplit(),
                      decoder=decoders.WordPiece(cleanup=False))


def word_group():
    splits = [pre_tokenizers.Punctuation("merged_with_previous"),
              pre_tokenizers.Digits(individual_digits=True),
              pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+"), "removed", invert=True)]
    pieces = with_parts(word_piece(), normalizers.Sequence([
        normalizers.NFKD(), normalizers.StripAccents(), normalizers.BertNormalizer()]),
        pre_tokenizers.Sequence(splits), decoders.WordPiece(), processors.BertProcessing(
            ("[UNK]", 0), ("the", 5)))
    levels = with_parts(word_level(), pre_tokenizer=pre_tokenizers.Sequence([
        pre_tokenizers.CharDelimiterSplit(" "), pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.Digits()]))
    nexts = with_parts(word_level(), normalizers.Replace("o", "0"), pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex("[aeiou]+"), "merged_with_next"),
        pre_tokenizers.Split("t", "contiguous"), pre_tokenizers.FixedLength(3)]))
    bert = with_parts(word_level(), pre_tokenizer=pre_tokenizers.BertPreTokenizer())
    return {"suffix": suffix_bpe(), "prefix": prefix_bpe(), "wordpiece": pieces, "levels": levels,
            "next": nexts, "bert-words": bert}


def tokenizers():
    """Tiny tokenizers by name, as the contents of tokenizer.json."""
    groups = byte_level_group() | metaspace_group() | word_group()
    return {name: json.loads(tokenizer.to_str()) for name, tokenizer in groups.items()}


# What the fixture has no room for; tokenizer_compare.py has it.
LEFT_OUT = {"unigram-bytes", "bpe-bytes", "next", "bert-words", "o200k", "metaspace-never",
            "space-suffix"}


def case(encode, decode, text):
    """[index of the text, ids, decoded text where it is another]"""
    ids = encode(text)
    return [ids] if decode(ids) == text else [ids, decode(ids)]


def shared(tables, table):
    """The table's number among those that several tokenizers have."""
    if table not in tables:
        tables.append(table)
    return tables.index(table)


def json_rows(tables):
    rows = {}
    for name, root in tokenizers().items():
        if name in LEFT_OUT:
            continue
        tokenizer = Tokenizer.from_str(json.dumps(root))
        around = tokenizer.encode("the").ids
        plain = tokenizer.encode("the", add_special_tokens=False).ids
        model = root["model"]
        for part in ("vocab", "merges"):
            if part in model:
                model[part] = shared(tables, model[part])
        cases = [case(lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
                      tokenizer.decode, text) for text in FIXTURE]
        rows[name] = {"tokenizer": root, "the": [plain, around], "cases": cases}
    return rows


def sentencepiece_rows():
    rows = {}
    for name, model in sentencepiece_models().items():
        if name in LEFT_OUT:
            continue
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        cases = [case(processor.encode, processor.decode, text) for text in FIXTURE]
        rows[name] = {"model": base64.b64encode(model).decode(), "cases": cases}
    return rows


def main():
    tables = []
    rows = {"texts": FIXTURE, "json": json_rows(tables), "sentencepiece": sentencepiece_rows(),
            "tables": tables}
    out = Path(__file__).parents[1] / "data" / "tokenizer_cases.json"
    out.write_text(json.dumps(rows, separators=(",", ":"), ensure_ascii=False) + "\n")
    print(out, out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
