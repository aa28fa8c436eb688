"""Where the time of a training step goes: oneDNN's products by kind, with their speed, and the rest.

    ./dev bench && .venv/bin/python bench/step_profile.py [--shapes 110m,roberta] [--batches 1,8]

Checkpoints, batches and settings of bench/engine_step.py. oneDNN reports every product it runs
(DNNL_VERBOSE); a step's time comes from a run without reports. "base" are products with frozen
weights, forward and backward, "thin" those with A and B, "attention" those of queries, keys and
values; thin products that go by way of MKL are among the rest. Speeds are parts of the fastest large
product (step_timer --peak).
"""
import argparse
import collections
import os
import re
import statistics
import subprocess
import tempfile

import engine_step

SHAPE = re.compile(r"mb(\d+)ic(\d+)oc(\d+)")
BLOCK = re.compile(r"(\d+)x(\d+):(\d+)x(\d+)")
KINDS = ["base", "head", "thin", "attention"]


def product(line):
    """@return (rows, inner, out, ms, whether it is a linear layer's), or None"""
    fields = line.rstrip().split(",")
    if not line.startswith("onednn_verbose") or "exec" not in fields or fields[-1] == "exec_time":
        return None
    if layer := SHAPE.search(line):
        return (*map(int, layer.groups()), float(fields[-1]), True)
    block = BLOCK.search(fields[-2])
    if block is None:
        return None  # an activation
    rows, inner, _, out = map(int, block.groups())
    return rows, inner, out, float(fields[-1]), False


def block_of_head(vocab):
    """Columns of models/decoder/lm_loss.cpp's products: equal parts of at most 1024."""
    parts = -(-vocab // 1024)
    return -(-vocab // parts)


def kind_of(rows, inner, out, is_layer, row):
    if not is_layer:
        return "attention"
    if row["rank"] in (rows, inner, out):
        return "thin"
    return "head" if block_of_head(row["vocab"]) in (inner, out) else "base"


def profile(program, row):
    """Of one step: kind → [operations, ms]."""
    output = subprocess.run(engine_step.drystone_command(program, row), check=True,
                            capture_output=True, text=True,
                            env={**os.environ, "DNNL_VERBOSE": "profile_exec"}).stdout
    sums = collections.defaultdict(lambda: [0.0, 0.0])
    for found in filter(None, map(product, output.splitlines())):
        rows, inner, out, ms, is_layer = found
        entry = sums[kind_of(rows, inner, out, is_layer, row)]
        entry[0] += 2.0 * rows * inner * out / (row["steps"] + 2)
        entry[1] += ms / (row["steps"] + 2)
    return sums


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/bench/step_timer")
    parser.add_argument("--shapes", default="15m,110m,roberta")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--ranks", default="8,64")
    parser.add_argument("--targets", default="all")
    parser.add_argument("--lengths", default="fixed")
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    arguments.precision, arguments.device = "float32", "cpu"
    print("| shape | rows | lengths | adapters | rank | step ms | of peak | "
          + " | ".join(f"{kind} ms (of peak)" for kind in KINDS) + " | rest ms |\n"
          "|---|--:|---|---|--:|--:|--:|" + "--:|" * (len(KINDS) + 1))
    with tempfile.TemporaryDirectory() as folder:
        for row in engine_step.rows_of(arguments, folder):
            gflops = engine_step.run([arguments.program, "--peak"])["gflops"]
            step = statistics.median(
                engine_step.drystone_turn(arguments.program, row)["cpu_ms"] for _ in range(3))
            sums = profile(arguments.program, row)
            cells = [f"{sums[kind][1]:.0f} ({sums[kind][0] / sums[kind][1] / 1e4 / gflops:.0f} %)"
                     if sums[kind][1] else "–" for kind in KINDS]
            rest = step - sum(ms for _, ms in sums.values())
            share = engine_step.operations(row) / (step * 1e6 * gflops)
            print(f"| {row['shape']} | {row['batch']} | {row['kind']} | {row['targets']} "
                  f"| {row['rank']} | {step:.0f} "
                  f"| {100 * share:.0f} % | " + " | ".join(cells) + f" | {rest:.0f} |", flush=True)


if __name__ == "__main__":
    main()
