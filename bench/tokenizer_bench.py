"""Compares Drystone's tokenizer with Hugging Face's `tokenizers` on one thread: first that all ids
are equal, then the CPU time. The table goes to docs/measurements.md.

    cmake --preset ci -DDRYSTONE_BUILD_BENCH=ON && cmake --build build --target tokenizer_timer
    .venv/bin/python bench/tokenizer_bench.py build/bench/tokenizer_timer MODEL_FOLDER FILE.jsonl...

--random N adds N random strings over all of Unicode, --code-points every code point there is.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # read when the library is loaded

from tokenizers import Tokenizer  # noqa: E402

RUNS = 3


def random_character(rng):
    kind = rng.random()
    if kind < 0.3:
        return chr(rng.randrange(32, 127))
    if kind < 0.4:
        return " "
    if kind < 0.55:
        return chr(rng.randrange(0x300, 0x370))  # combining marks
    if kind < 0.75:
        return chr(rng.randrange(0x3000))
    while True:
        code = rng.randrange(0x110000 if kind > 0.95 else 0x30000)
        if not 0xD800 <= code < 0xE000:
            return chr(code)


def random_text(rng, vocabulary):
    words = []
    for _ in range(rng.randrange(8)):
        if rng.random() < 0.5:
            words.append("".join(random_character(rng) for _ in range(rng.randrange(1, 9))))
        else:
            token = rng.choice(vocabulary)
            at = rng.randrange(len(token) + 1)
            words.append(token[:at] + random_character(rng) + token[at:])
    return rng.choice(["", " "]).join(words)


def mixed_texts(rng, count=3000):
    """Words of letters of seven scripts, as running text."""
    scripts = [(0x61, 0x7B), (0xC0, 0x180), (0x391, 0x3CA), (0x410, 0x450), (0x5D0, 0x5EB),
               (0x4E00, 0x9FA6), (0xAC00, 0xD7A4)]
    texts = []
    for _ in range(count):
        words = []
        for _ in range(100):
            low, high = rng.choice(scripts)
            words.append("".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 8))))
        texts.append(" ".join(words) + ".")
    return texts


def least_cpu_time(action):
    best = float("inf")
    for _ in range(RUNS):
        start = time.process_time()
        action()
        best = min(best, time.process_time() - start)
    return best


def program(arguments, file, max_length, *options):
    command = [arguments.program, arguments.model, file, str(max_length), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def compare(arguments, tokenizer, name, texts, max_length):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", delete=False) as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    tokenizer.no_truncation()
    if max_length:
        tokenizer.enable_truncation(max_length)
    try:
        lines = program(arguments, file.name, max_length, "--ids").splitlines()
        ours = json.loads(program(arguments, file.name, max_length))
    finally:
        os.unlink(file.name)
    differing = sum(list(map(int, line.split())) != tokenizer.encode(text).ids
                    for text, line in zip(texts, lines, strict=True))
    one_by_one = least_cpu_time(lambda: [tokenizer.encode(text) for text in texts])
    batch = least_cpu_time(lambda: tokenizer.encode_batch(texts))
    fast = least_cpu_time(lambda: tokenizer.encode_batch_fast(texts))
    speeds = [ours["ids"] / seconds / 1e6 for seconds in (ours["seconds"], one_by_one, batch, fast)]
    cut = max_length or "–"
    print(f"| {name} | {len(texts)} | {cut} | {ours['ids']} | {differing} | "
          + " | ".join(f"{speed:.2f}" for speed in speeds)
          + f" | {speeds[0] / max(speeds[1:]):.1f}× |", flush=True)
    return differing


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--code-points", action="store_true")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(os.path.join(arguments.model, "tokenizer.json"))
    tokenizer.no_padding()
    rng = random.Random(1)
    sets = {"seven scripts": mixed_texts(rng)}
    for file in arguments.files:
        with open(file, encoding="utf-8") as lines:
            sets[os.path.basename(file)] = [json.loads(line)["text"] for line in lines]
    if arguments.random:
        vocabulary = sorted(tokenizer.get_vocab())
        sets["random Unicode"] = [random_text(rng, vocabulary) for _ in range(arguments.random)]
    if arguments.code_points:
        codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
        sets["every code point"] = [f"a{chr(c)}b {chr(c)}" for c in codes]
    print("| texts | number | max_length | ids | differing | ours | encode | encode_batch | "
          "encode_batch_fast | ours / best |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    return sum(compare(arguments, tokenizer, name, texts, max_length)
               for name, texts in sets.items() for max_length in (0, 128)) > 0


if __name__ == "__main__":
    sys.exit(main())
