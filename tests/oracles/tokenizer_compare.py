"""Compares Drystone's tokenizers with Hugging Face's `tokenizers` and with `sentencepiece` on much
text: ids without and with special tokens, and decoded texts, must be equal.

    cmake --preset ci -DDRYSTONE_BUILD_BENCH=ON && cmake --build build --target tokenizer_timer
    .venv/bin/python tests/oracles/tokenizer_compare.py build/bench/tokenizer_timer [--random N]
        [--code-points] [--only NAME] [--show N]

The tokenizers are those of ../shared/data/tokenizers and the tiny ones of tokenizer_cases.py. The
texts: 100 kB in ten scripts (whole and in lines), the shared strings, N random strings over all of
Unicode, words of 100 kB without a space.
"""

import argparse
import gzip
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import sentencepiece
import tokenizer_cases
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.implementations import BertWordPieceTokenizer
from tokenizers.models import Unigram

SHARED = Path(__file__).parents[2] / "../shared/data/tokenizers"
JSON = ["gpt2", "mistral-v1", "mistral-v3", "olmo-neox", "stories512", "tiny-llama3-style"]
SENTENCEPIECE = {"t5": "t5/spiece.model.gz", "albert": "albert/spiece.model.gz",
                 "mistral-v1": "mistral-v1/tokenizer.model",
                 "mistral-v3": "mistral-v3/tokenizer.model", "tiny-m": "tiny-spm/m.model",
                 "tiny-unigram": "tiny-spm/test_model_unigram.model",
                 "stories512": "stories512/tok512.model"}


class HuggingFace:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()

    def row(self, text):
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [ids, self.tokenizer.encode(text).ids, self.tokenizer.decode(ids)]


class SentencePiece:
    def __init__(self, file):
        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(file))

    def row(self, text):
        ids = self.processor.encode(text)
        return [ids, None, self.processor.decode(ids)]


def unpack(source, target):
    data = source.read_bytes()
    target.write_bytes(gzip.decompress(data) if source.suffix == ".gz" else data)


def bert(folder):
    """WordPiece of the shared vocab.txt, with a tokenizer.json beside it."""
    vocabulary = SHARED / "bert-base-uncased/vocab.txt"
    tokenizer = BertWordPieceTokenizer(str(vocabulary))
    tokenizer.save(str(folder / "tokenizer.json"))
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def shared_tokenizers(folder):
    (folder / "bert-base-uncased.json").mkdir()
    yield folder / "bert-base-uncased.json", HuggingFace(bert(folder / "bert-base-uncased.json"))
    for name in JSON:
        source = next(p for p in (SHARED / name).glob("tokenizer.json*"))
        target = folder / f"{name}.json"
        target.mkdir()
        unpack(source, target / "tokenizer.json")
        yield target, HuggingFace(Tokenizer.from_file(str(target / "tokenizer.json")))
    for name, source in SENTENCEPIECE.items():
        target = folder / f"{name}.model"
        target.mkdir()
        unpack(SHARED / source, target / "tokenizer.model")
        yield target, SentencePiece(target / "tokenizer.model")


def unigram_from(model):
    """The Unigram tokenizer of a SentencePiece file, as transformers converts it for T5."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(len(processor))]
    tokenizer = Tokenizer(Unigram(pieces, processor.unk_id(), False))
    table = tokenizer_cases.protobuf_field(
        tokenizer_cases.protobuf_field(model.read_bytes(), 3), 2)
    tokenizer.normalizer = normalizers.Precompiled(table)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    eos = "</s>" if processor.piece_to_id("</s>") != processor.unk_id() else "[SEP]"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, processor.piece_to_id(eos))])
    return tokenizer


def converted_tokenizers(folder):
    for name in ("t5", "albert"):
        target = folder / f"{name}-unigram.json"
        target.mkdir()
        unpack(SHARED / name / "spiece.model.gz", target / "source")
        tokenizer = unigram_from(target / "source")
        if name == "albert":
            tokenizer.normalizer = normalizers.Sequence([
                normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(),
                normalizers.Lowercase(), tokenizer.normalizer,
                normalizers.Replace(Regex(" {2,}"), " ")])
        tokenizer.save(str(target / "tokenizer.json"))
        yield target, HuggingFace(tokenizer)


def tiny_tokenizers(folder):
    for name, tokenizer in tokenizer_cases.tokenizers().items():
        target = folder / f"tiny.{name}"
        target.mkdir()
        (target / "tokenizer.json").write_text(json.dumps(tokenizer))
        yield target, HuggingFace(Tokenizer.from_str(json.dumps(tokenizer)))


def tiny_sentencepiece(folder):
    for name, model in tokenizer_cases.sentencepiece_models().items():
        target = folder / f"tiny.{name}.model"
        target.mkdir()
        (target / "tokenizer.model").write_bytes(model)
        yield target, SentencePiece(target / "tokenizer.model")


SCRIPTS = [(0x61, 0x7B), (0x61, 0x7B), (0xC0, 0x180), (0x391, 0x3CA), (0x410, 0x450),
           (0x5D0, 0x5EB), (0x621, 0x64B), (0x905, 0x93A), (0xE01, 0xE31), (0x3041, 0x3097),
           (0x4E00, 0x9FA6), (0xAC00, 0xD7A4)]


def mixed_text(rng, size=100_000):
    """Sentences of words in ten scripts, with digits, punctuation, emoji and odd spaces."""
    parts = []
    while sum(map(len, parts)) * 2 < size:
        low, high = rng.choice(SCRIPTS)
        for _ in range(rng.randrange(1, 12)):
            parts.append("".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 9))))
            parts.append(rng.choice([" "] * 8 + ["  ", "\n", "\t", ", ", "\u00a0", "\u3000"]))
        parts.append(rng.choice([". ", "!\n", "? ", "... ", "\n\n", " 😀 ", " 👩‍👩‍👧 ", "12345 ", " 3.14",
                                 "don't we're ", "<s>", "½ ", "e\u0301\u0323 "]))
    return "".join(parts)


def random_character(rng):
    kind = rng.random()
    if kind < 0.3:
        return chr(rng.randrange(0, 128))
    if kind < 0.45:
        return rng.choice(" \u2581\n\t\r'▁")
    if kind < 0.55:
        return chr(rng.randrange(0x300, 0x370))
    if kind < 0.75:
        return chr(rng.randrange(0x80, 0x3100))
    while True:
        code = rng.randrange(0x110000 if kind > 0.97 else 0x30000)
        if not 0xD800 <= code < 0xE000:
            return chr(code)


def random_text(rng):
    return "".join(random_character(rng) for _ in range(rng.randrange(0, 60)))


def texts(count, code_points):
    rng = random.Random(7)
    mixed = mixed_text(rng)
    yield "100 kB mixed", [mixed]
    yield "its lines", mixed.splitlines()
    yield "long words", ["a" * 100_000, "ab1" * 30_000, "\u4e2d" * 30_000, "!?" * 50_000]
    yield "random Unicode", [random_text(rng) for _ in range(count)]
    if code_points:
        codes = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
        yield "every code point", ["".join(f"a{chr(c)}b {chr(c)} " for c in codes[i:i + 64])
                                   for i in range(0, len(codes), 64)]


def program_rows(program, folder, strings):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(text) + "\n" for text in strings)
        file.flush()
        done = subprocess.run([program, folder, file.name, "0", "--ids"], check=True,
                              capture_output=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(program, folder, oracle, sets, show):
    total = equal = 0
    for name, strings in sets:
        for text, ours in zip(strings, program_rows(program, folder, strings), strict=True):
            theirs = oracle.row(text)
            if theirs[1] is None:
                ours[1] = None
            total += 1
            equal += ours == theirs
            if ours != theirs and show > 0:
                show -= 1
                part = next(i for i in range(3) if ours[i] != theirs[i])
                print(f"  {name}: {text[:200]!r} part {part}\n    ours   {str(ours[part])[:300]}\n"
                      f"    theirs {str(theirs[part])[:300]}")
    print(f"| {folder.name} | {total} | {equal} |", flush=True)
    return total - equal


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--random", type=int, default=20000)
    parser.add_argument("--code-points", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--show", type=int, default=3)
    arguments = parser.parse_args()
    sets = list(texts(arguments.random, arguments.code_points))
    folder = Path(tempfile.mkdtemp())
    print("| tokenizer | strings | equal |\n|---|--:|--:|")
    differing = 0
    try:
        makers = [tiny_tokenizers, tiny_sentencepiece] + (
            [converted_tokenizers, shared_tokenizers] if SHARED.exists() else [])
        for maker in makers:
            for target, oracle in maker(folder):
                if arguments.only in target.name:
                    differing += compare(arguments.program, target, oracle, sets, arguments.show)
    finally:
        shutil.rmtree(folder)
    return differing > 0


if __name__ == "__main__":
    sys.exit(main())
