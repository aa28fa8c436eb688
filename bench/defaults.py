#!/usr/bin/env python3
"""What each method's defaults make of a small federated client: docs/defaults.md's table.

    python3 examples/shakespeare/prepare.py plays.txt
    python3 bench/defaults.py --model .data/stories260K --data .data/shakespeare

For each method, number of texts and number of steps: one client, one round, everything else at its
default. ‖ΔW‖ of its update over all modules and the change of the test loss, the mean over --seeds; the
mean rank that is left stands in --results. A run that is there is not run again. Standard library and NumPy.
"""

import argparse
import json
import math
import pathlib
import shutil
import statistics
import struct
import subprocess
import tempfile

import numpy

# All that train.
METHODS = ["lora", "rslora", "pissa", "ba-lora", "kasa", "bilora", "sbora-fa", "sbora-fb", "sora", "lora-pro",
           "lora-rite", "clora", "rac-lora", "flat-lora", "loraprune", "lora-ensemble"]

CONFIG = """name = "defaults"
seed = {seed}
[model]
path = "{model}"
task = "causal-lm"
max_length = 64
[data]
train = "{folder}/train.jsonl"
test = "{data}/test.jsonl"
max_test_examples = 100
[federation]
rounds = {rounds}
[training]
method = "{method}"
epochs = {steps}
max_steps = {steps}
{settings}
[training.options]
{options}
[[clients]]
"""


def tensors_of(file):
    """A safetensors file: float32 alone."""
    with open(file, "rb") as stream:
        header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
        data = stream.read()
    header.pop("__metadata__", None)
    return {name: numpy.frombuffer(data[slice(*about["data_offsets"])],
                                   "<f4" if about["dtype"] == "F32" else "<i4")
            .reshape(about["shape"]) for name, about in header.items()}


def dense_factor(tensors, module, side):
    """A or B, also where it is sent as indices."""
    plain = tensors.get(f"{module}.lora_{side}.weight")
    if plain is not None:
        return plain.astype(numpy.float64)
    stem = f"{module}.lora_{side}.index."
    key = next(name for name in tensors if name.startswith(stem))
    index, width = tensors[key], int(key[len(stem):])
    values = tensors.get(f"{module}.lora_{side}.value", numpy.ones(len(index)))
    rows = numpy.zeros((len(index), width))
    rows[numpy.arange(len(index)), index] = values
    return rows if side == "A" else rows.T


def size_of(update):
    """‖ΔW‖ over all modules, and the mean rank."""
    tensors = tensors_of(update)
    modules = sorted({name.split(".lora_")[0] for name in tensors if ".lora_" in name})
    square, ranks = 0.0, []
    for module in modules:
        a, b = dense_factor(tensors, module, "A"), dense_factor(tensors, module, "B")
        square += float(((b.T @ b) * (a @ a.T)).sum())
        ranks.append(a.shape[0])
    return math.sqrt(max(square, 0.0)), statistics.mean(ranks)


def run(arguments, method, options, texts, steps, seed, settings):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        lines = (arguments.data / "train.jsonl").read_text(encoding="utf-8").splitlines(True)
        step = len(lines) // 200
        (folder / "train.jsonl").write_text("".join(lines[seed:seed + step * texts:step]),
                                            encoding="utf-8")
        (folder / "run.toml").write_text(
            CONFIG.format(seed=seed, model=arguments.model.resolve(), folder=folder, method=method,
                          data=arguments.data.resolve(), steps=steps, rounds=arguments.rounds,
                          settings=settings, options=options), encoding="utf-8")
        done = subprocess.run([arguments.drystone, "simulate", folder / "run.toml", "--out",
                               folder / "run", "--threads", "1", "--log-level", "error"],
                              capture_output=True, text=True)
        if done.returncode != 0:
            return {"error": (done.stderr or done.stdout).strip().splitlines()[-1]}
        report = json.loads((folder / "run/report.json").read_text())
        norm, rank = size_of(folder / "run/versions/0001/updates/client-1.safetensors")
        shutil.rmtree(folder / "run")
        return {"norm": norm, "rank": rank, "before": report["before"]["loss"],
                "loss": report["after"]["loss"]}


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drystone", default="build/bin/drystone")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--results", type=pathlib.Path, default="runs/defaults.jsonl")
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 4, 16, 200])
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--settings", default="", help="lines of [training], e.g. 'rank = 64'")
    parser.add_argument("--only", nargs="*", help="'method' or 'method: option = value, …'")
    return parser.parse_args()


def jobs_of(arguments):
    for wanted in arguments.only or METHODS:
        method, _, options = wanted.partition(":")
        for texts in arguments.texts:
            for steps in arguments.steps:
                for seed in arguments.seeds:
                    yield {"method": method, "options": options.strip(), "texts": texts,
                           "steps": steps, "seed": seed, "rounds": arguments.rounds,
                           "settings": arguments.settings}


def table(rows, arguments):
    columns = [(texts, steps) for texts in arguments.texts for steps in arguments.steps]
    heads = [f"{t}×{s}" for t, s in columns]
    print("| method | " + " | ".join(heads) + " |")
    print("|---|" + "--:|" * len(columns))
    for name in dict.fromkeys((row["method"], row["options"]) for row in rows):
        cells = []
        for texts, steps in columns:
            own = [row for row in rows if (row["method"], row["options"]) == name
                   and (row["texts"], row["steps"]) == (texts, steps)]
            if any("error" in row for row in own):
                cells.append("refused")
                continue
            mean = lambda key: statistics.mean(row[key] for row in own)
            cells.append(f"{mean('norm'):.2f} / {mean('loss') - mean('before'):+.3f}")
        label = f"{name[0]}, {name[1]}" if name[1] else name[0]
        print(f"| {label} | " + " | ".join(cells) + " |")


def main():
    arguments = parse()
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if arguments.results.exists():
        for line in arguments.results.read_text().splitlines():
            row = json.loads(line)
            known[json.dumps(row["job"])] = row["result"]
    rows = []
    for job in jobs_of(arguments):
        key = json.dumps(job)
        if key not in known:
            options = "\n".join(job["options"].split(", "))
            known[key] = run(arguments, job["method"], options, job["texts"], job["steps"],
                             job["seed"], job["settings"])
            with open(arguments.results, "a") as file:
                file.write(json.dumps({"job": job, "result": known[key]}) + "\n")
        rows.append(job | known[key])
    table(rows, arguments)


if __name__ == "__main__":
    main()
