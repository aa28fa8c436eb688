#!/usr/bin/env python3
"""What the defaults of [model], [data], [federation] and [aggregation] make of unequal clients: the second table of
docs/defaults.md.

    python3 examples/shakespeare/prepare.py plays.txt
    python3 bench/federation_defaults.py --model .data/stories260K --data .data/shakespeare

Clients of 1, 4, 16 and 200 texts, one file each, a few rounds; one key at a time differs from its default. The test
loss at the end, mean and extremes over --seeds, on the same texts throughout. Standard library.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

SIZES = [1, 4, 16, 200]

CONFIG = """name = "federation-defaults"
seed = {seed}
[model]
path = "{model}"
task = "causal-lm"
[data]
train = "{folder}/shards"
partition = "by-file"
test = "{folder}/test.jsonl"
[training]
max_steps = 8
learning_rate = {rate}
[[clients]]
count = 4
"""

VARIANTS = [
    [], ["model.max_length=32"], ["model.max_length=64"], ["model.max_length=256"],
    ["data.packing=true"], ["data.loss_on=all"],
    ["federation.cohort=2"], ["federation.cohort=1"],
    ["aggregation.weights=uniform"], ["aggregation.compaction=none"],
    ["aggregation.compaction={rank = 8}"], ["aggregation.compaction={tolerance = 0.1}"],
    ["aggregation.rule=zero-pad"], ["aggregation.max_norm=10"], ["aggregation.max_norm=1"], ["aggregation.max_norm=0"],
]


def write_data(folder, data, seed):
    """Every client's texts, and 100 test texts cut alike for all."""
    lines = (data / "train.jsonl").read_text(encoding="utf-8").splitlines(True)
    (folder / "shards").mkdir()
    step, begin = len(lines) // sum(SIZES), seed
    for size in SIZES:
        own = lines[begin:begin + step * size:step]
        begin += step * size
        (folder / "shards" / f"{size:03}.jsonl").write_text("".join(own), encoding="utf-8")
    test = (data / "test.jsonl").read_text(encoding="utf-8").splitlines(True)
    (folder / "test.jsonl").write_text("".join(test[:100]), encoding="utf-8")


def drystone(arguments, *words):
    done = subprocess.run([arguments.drystone, *map(str, words), "--threads", "1", "--log-level", "error"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit((done.stderr or done.stdout).strip())
    return done.stdout


def loss_of(arguments, changes, seed):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_data(folder, arguments.data, seed)
        (folder / "run.toml").write_text(CONFIG.format(seed=seed, model=arguments.model.resolve(),
                                                       folder=folder, rate=arguments.learning_rate))
        changes = [f"federation.rounds={arguments.rounds}", *changes]
        flags = [word for change in changes for word in ("--set", change)]
        drystone(arguments, "simulate", folder / "run.toml", "--out", folder / "run", *flags)
        told = drystone(arguments, "evaluate", "--model", arguments.model, "--adapter", folder / "run/global",
                        "--task", "causal-lm", "--data", folder / "test.jsonl", "--max-length", "512", "--json")
        return json.loads(told)["loss"]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drystone", default="build/bin/drystone")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


def main():
    arguments = parse()
    print("| key | test loss | least … most |\n|---|--:|--:|")
    for changes in VARIANTS:
        losses = [loss_of(arguments, changes, seed) for seed in arguments.seeds]
        label = " ".join(changes) or "all defaults"
        print(f"| `{label}` | {statistics.mean(losses):.3f} | {min(losses):.3f} … {max(losses):.3f} |", flush=True)


if __name__ == "__main__":
    main()
