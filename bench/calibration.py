#!/usr/bin/env python3
"""Calibration of a sentence encoder that was fine-tuned on 500 texts: docs/calibration.md's table.

    nice -n 5 python3 bench/calibration.py --drystone build/bin/drystone --model MINILM \
        --task sst2:TRAIN:TEST:sentence:label --task news:TRAIN:TEST:text:label --out runs/calibration

A task is NAME:TRAIN:TEST:TEXT_FIELD:LABEL_FIELD (JSON lines, also .gz). For each task and seed:
500 keyed training texts and 100 for the temperature, one federation of five clients that trains
LoRA, one that collects the posterior, one that trains an ensemble of --members from the same
settings, and an evaluation of each on the same --test texts. Standard library only.
"""

import argparse
import gzip
import json
import pathlib
import random
import statistics
import subprocess

ROWS = ["map", "temperature", "mc-dropout", "ensemble", "last-layer.mc", "last-layer.probit", "laplace.mc",
        "laplace.probit", "laplace.bridge", "laplace+head.mc", "laplace+head.probit"]
METRICS = ["accuracy", "nll", "ece", "brier"]

CONFIG = """name = "calibration"
seed = {seed}
[model]
path = "{model}"
max_length = {length}
[data]
train = "{train}"
text_field = "text"
label_field = "label"
partition = "iid"
[federation]
rounds = {rounds}
[training]
target_modules = ["query", "value"]
rank = 8
alpha = 16
epochs = {epochs}
batch_size = 16
learning_rate = {rate}
dropout = 0.1
[[clients]]
count = 5
"""


def read(path):
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(path, examples):
    path.write_text("".join(json.dumps(example) + "\n" for example in examples), encoding="utf-8")


def prepare(task, seed, args, folder):
    name, train, test, text, label = task.split(":")
    plain = lambda e: {"text": e[text], "label": str(e[label])}
    examples = [plain(e) for e in read(train)]
    random.Random(f"{name}/{seed}").shuffle(examples)
    chosen, labels = examples[: args.train], {e["label"] for e in examples}
    missing = labels - {e["label"] for e in chosen}
    if missing:
        raise SystemExit(f"{name}: {args.train} texts lack the classes {sorted(missing)}")
    held_out = [plain(e) for e in read(test)]
    random.Random(f"{name}/test").shuffle(held_out)
    write(folder / "train.jsonl", chosen)
    write(folder / "validation.jsonl", examples[args.train : args.train + args.validation])
    write(folder / "test.jsonl", held_out[: args.test])


def call(args, *words):
    command = [args.drystone, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(" ".join(command) + "\n" + done.stderr)
    return done.stdout


def measure(task, seed, args):
    folder = pathlib.Path(args.out).resolve() / task.split(":")[0] / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    prepare(task, seed, args, folder)
    config = folder / "federation.toml"
    config.write_text(CONFIG.format(seed=seed, model=pathlib.Path(args.model).resolve(),
                                    train=folder / "train.jsonl", rounds=args.rounds,
                                    epochs=args.epochs, rate=args.rate,
                                    length=args.max_length))
    call(args, "simulate", config, "--set", f"output.dir={folder / 'trained'}",
         "--set", "simulation.workers=1")
    adapter = folder / "trained" / "global"
    call(args, "simulate", config, "--set", f"output.dir={folder / 'posterior'}",
         "--set", f"model.adapter={adapter}", "--set", "training.method=laplace-lora",
         "--set", "federation.rounds=1", "--set", "simulation.workers=1")
    evaluate = ["evaluate", "--model", args.model, "--data", folder / "test.jsonl",
                "--max-length", args.max_length, "--json"]
    result = json.loads(call(args, *evaluate, "--posterior", folder / "posterior" / "global",
                             "--validation", folder / "validation.jsonl", "--mc-dropout", 10, "--batch-size", 8, "--samples", 2000,
                             "--threads", 1))
    call(args, "simulate", config, "--set", f"output.dir={folder / 'ensemble'}",
         "--set", "training.method=lora-ensemble", "--set", f"training.options.members={args.members}",
         "--set", "simulation.workers=1")
    members = json.loads(call(args, *evaluate, "--ensemble", folder / "ensemble" / "global",
                              "--threads", 1))
    result["predictives"]["ensemble"] = members["predictives"]["ensemble"]
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def table(task, results):
    print(f"\n### {task.split(':')[0]}\n")
    print("| prediction | " + " | ".join(METRICS) + " |\n|---|" + "---|" * len(METRICS))
    for row in ROWS:
        cells = []
        for metric in METRICS:
            values = [result["predictives"][row][metric] for result in results]
            cells.append(f"{statistics.mean(values):.3f} ± {statistics.pstdev(values):.3f}")
        print(f"| {row} | " + " | ".join(cells) + " |")
    for key in ["temperature", "laplace.precision", "last-layer.precision", "laplace+head.precision"]:
        print(f"\n{key}: " + ", ".join(f"{result[key]:.3g}" for result in results))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drystone", default="build/bin/drystone")
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", action="append", required=True)
    parser.add_argument("--out", default="runs/calibration")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=500)
    parser.add_argument("--validation", type=int, default=100)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--max-length", type=int, default=64, help="tokens of a text")
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--members", type=int, default=5)
    args = parser.parse_args()
    for task in args.task:
        table(task, [measure(task, seed, args) for seed in range(args.seeds)])


if __name__ == "__main__":
    main()
