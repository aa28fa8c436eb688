#!/usr/bin/env python3
"""LoRAPrune's perplexity and size by ratio and criterion: docs/methods/loraprune.md's table.

    python3 examples/shakespeare/prepare.py ../shared/data/datasets/shakespeare/by_role.jsonl.gz
    python3 bench/pruned.py --model ../shared/data/models/stories260K --data .data/shakespeare

For each criterion, ratio and seed: one federation of four clients of ranks 16, 8, 4 and 2; the test
perplexity of the base with the run's factors and masks, that of the smaller checkpoint that
`drystone merge` writes, the checkpoint's bytes, and the processor time of an evaluation and (of the
first seed) of a generated token, the least of --times. A folder that holds results is not run again.
Standard library only.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess

CRITERIA = {
    "reference": {"form": "reference"},
    "paper": {"form": "paper"},
    "magnitude": {"criterion": "magnitude"},
    "random": {"criterion": "random"},
}

CONFIG = """name = "pruned"
seed = {seed}
[model]
path = "{model}"
task = "causal-lm"
max_length = 128
[data]
train = "{data}/train.jsonl"
partition = "iid"
[federation]
rounds = {rounds}
[training]
method = "loraprune"
max_steps = {steps}
batch_size = 8
learning_rate = 5e-3
schedule = "constant"
[training.options]
ratio = {ratio}
cooldown = 0.34
{options}
[[clients]]
rank = 16
alpha = 32
[[clients]]
rank = 8
alpha = 16
[[clients]]
rank = 4
alpha = 8
[[clients]]
rank = 2
alpha = 4
[simulation]
workers = 1
[output]
dir = "{folder}/run"
"""


def call(args, *words):
    """@return  the program's output and its processor seconds"""
    command = [args.drystone, *map(str, words)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(" ".join(command) + "\n" + done.stderr)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def evaluate(args, *model):
    runs = [call(args, "evaluate", "--task", "causal-lm", "--data", f"{args.data}/test.jsonl",
                 "--max-length", 256, "--threads", 1, "--json", *model) for _ in range(args.times)]
    return json.loads(runs[0][0])["perplexity"], min(seconds for _, seconds in runs)


def milliseconds_a_token(args, *model):
    def seconds(tokens):
        return min(call(args, "generate", "--prompt", "", "--max-new-tokens", tokens, "--batch", 1,
                        "--threads", 1, *model)[1] for _ in range(args.times))
    return 1e3 * (seconds(args.tokens + 1) - seconds(1)) / args.tokens


def measure(criterion, ratio, seed, args):
    folder = pathlib.Path(args.out).resolve() / f"{criterion}-{ratio}" / str(seed)
    kept = folder / "result.json"
    if kept.exists():
        return json.loads(kept.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    options = "\n".join(f'{key} = "{value}"' for key, value in CRITERIA[criterion].items())
    config = folder / "federation.toml"
    config.write_text(CONFIG.format(
        seed=seed, model=pathlib.Path(args.model).resolve(), data=pathlib.Path(args.data).resolve(),
        rounds=args.rounds, steps=args.steps, ratio=ratio, options=options, folder=folder))
    call(args, "simulate", config)
    masked = ["--model", args.model, "--adapter", folder / "run" / "global"]
    call(args, "merge", *masked, "--out", folder / "merged")
    merged = ["--model", folder / "merged"]
    result = {}
    result["masked"], result["masked_s"] = evaluate(args, *masked)
    result["merged"], result["merged_s"] = evaluate(args, *merged)
    result["bytes"] = sum(f.stat().st_size for f in (folder / "merged").glob("*.safetensors"))
    if seed == 0:
        result["masked_ms"] = milliseconds_a_token(args, *masked)
        result["merged_ms"] = milliseconds_a_token(args, *merged)
    kept.write_text(json.dumps(result) + "\n")
    return result


def row(criterion, ratio, results):
    def spread(key):
        values = [result[key] for result in results]
        return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"
    worst = max(abs(result["merged"] / result["masked"] - 1.0) for result in results)
    seconds = [statistics.mean(result[key] for result in results) for key in ("masked_s", "merged_s")]
    first = results[0]
    print(f"| {round(100 * ratio)} % | {criterion if ratio > 0 else '–'} | {spread('masked')} | "
          f"{spread('merged')} | {worst:.0e} | {first['bytes'] / 1e3:.0f} | {seconds[0]:.2f} | "
          f"{seconds[1]:.2f} | {first['masked_ms']:.3f} | {first['merged_ms']:.3f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drystone", default="build/bin/drystone")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--out", default="runs/pruned")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.0, 0.2, 0.5])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--times", type=int, default=3)
    args = parser.parse_args()
    print("| pruned | criterion | perplexity, masked | merged | largest difference | merged, KB | "
          "evaluation masked, s | merged, s | a token masked, ms | merged, ms |\n"
          "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for ratio in args.ratios:
        for criterion in CRITERIA if ratio > 0 else ["reference"]:
            row(criterion, ratio,
                [measure(criterion, ratio, seed, args) for seed in range(args.seeds)])


if __name__ == "__main__":
    main()
