"""Compares the speed of Drystone's tokenizers with that of Hugging Face's `tokenizers` on one thread:
first that all ids are equal, then the CPU time. The table goes to docs/tokenizers.md.

    cmake --preset ci -DDRYSTONE_BUILD_BENCH=ON && cmake --build build --target tokenizer_timer
    .venv/bin/python bench/tokenizer_bench.py build/bench/tokenizer_timer [--model FOLDER...]
        [--texts FILE.jsonl|FILE.txt[.gz]...] [--max-length N] [--code-points]

Without --model: GPT-2, Llama 3's kind, GPT-NeoX, Mistral, T5 (unigram) and BERT of ../shared/data. Without
--texts: WikiText and text in ten scripts.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # read when the library is loaded
sys.path.insert(0, str(Path(__file__).parents[1] / "tests/oracles"))

import tokenizer_compare  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

RUNS = 3
DATA = Path(__file__).parents[1] / "../shared/data"
MODELS = ["gpt2", "tiny-llama3-style", "olmo-neox", "mistral-v1", "t5", "bert-base-uncased"]


def shared_model(name, folder):
    """A folder with the tokenizer.json of a shared tokenizer."""
    target = Path(folder, name)
    target.mkdir()
    if name == "t5":
        tokenizer_compare.unpack(DATA / "tokenizers/t5/spiece.model.gz", target / "source")
        tokenizer_compare.unigram_from(target / "source").save(str(target / "tokenizer.json"))
        (target / "source").unlink()
    elif name == "bert-base-uncased":
        tokenizer_compare.bert(target)
    else:
        source = next((DATA / "tokenizers" / name).glob("tokenizer.json*"))
        tokenizer_compare.unpack(source, target / "tokenizer.json")
    return target


def read_texts(file):
    data = Path(file).read_bytes()
    text = (gzip.decompress(data) if str(file).endswith(".gz") else data).decode()
    if ".jsonl" in str(file):
        return [json.loads(line)["text"] for line in text.splitlines()]
    return [paragraph for paragraph in text.split("\n") if paragraph.strip()]


def text_sets(arguments):
    files = arguments.texts or [DATA / "datasets/wikitext-2/test.txt.gz"]
    sets = {Path(file).name: read_texts(file) for file in files}
    if not arguments.texts:
        rng = random.Random(1)
        sets["ten scripts"] = [line for line in tokenizer_compare.mixed_text(rng).splitlines() if line]
    if arguments.code_points:
        codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
        sets["every code point"] = [f"a{chr(c)}b {chr(c)}" for c in codes]
    return sets


def least_cpu_time(action):
    best = float("inf")
    for _ in range(RUNS):
        start = time.process_time()
        action()
        best = min(best, time.process_time() - start)
    return best


def program(arguments, model, file, *options):
    command = [arguments.program, model, file, str(arguments.max_length), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def compare(arguments, model, name, texts):
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if arguments.max_length:
        tokenizer.enable_truncation(arguments.max_length)
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(text) + "\n" for text in texts)
        file.flush()
        rows = program(arguments, model, file.name, "--ids").splitlines()
        ours = json.loads(program(arguments, model, file.name))
    differing = sum(json.loads(row)[1] != tokenizer.encode(text).ids
                    for text, row in zip(texts, rows, strict=True))
    one_by_one = least_cpu_time(lambda: [tokenizer.encode(text) for text in texts])
    fast = least_cpu_time(lambda: tokenizer.encode_batch_fast(texts))
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    speeds = [megabytes / seconds for seconds in (ours["seconds"], one_by_one, fast)]
    print(f"| {model.name} | {name} | {megabytes:.2f} | {ours['ids']} | {differing} | "
          + " | ".join(f"{speed:.1f}" for speed in speeds)
          + f" | {speeds[0] / max(speeds[1:]):.1f}× |", flush=True)
    return differing


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("--model", nargs="*", type=Path)
    parser.add_argument("--texts", nargs="*")
    parser.add_argument("--max-length", type=int, default=0)
    parser.add_argument("--code-points", action="store_true")
    arguments = parser.parse_args()
    sets = text_sets(arguments)
    print("| tokenizer | texts | MB | ids | differing | ours, MB/s | encode | encode_batch_fast | "
          "ours / best |\n|---|---|--:|--:|--:|--:|--:|--:|--:|")
    differing = 0
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.model or [shared_model(name, folder) for name in MODELS]
        for model in models:
            for name, texts in sets.items():
                differing += compare(arguments, model, name, texts)
    return differing > 0


if __name__ == "__main__":
    sys.exit(main())
