"""A billion weights in 4 bits: peak memory and time of a step, on a checkpoint of TinyLlama's shape.

    ./dev test && ./dev bench && .venv/bin/python bench/billion.py [--limit 3GB]

Writes 2.2 GB of random bfloat16 weights into a temporary folder, with the tokenizer of stories260K,
and trains LoRA of rank 8 on all linear layers on rows of 512 tokens: `drystone simulate` under the
limit (bfloat16 beside the 4-bit weights; one client, two rounds of two steps), and
bench/step_timer's steps (float32 beside them) with layers kept and computed again.
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import tempfile
import time

import engine_step

TOKENIZER = os.path.join(os.path.dirname(__file__), "../../shared/data/models/stories260K")
CONFIG = """name = "billion"
[model]
path = "model"
task = "causal-lm"
max_length = 512
quantization = "nf4"
dtype = "bfloat16"
[data]
train = "train.jsonl"
text_field = "text"
partition = "iid"
[federation]
rounds = 2
[training]
target_modules = ["all-linear"]
rank = 8
batch_size = 1
max_steps = 2
learning_rate = 1e-4
[[clients]]
count = 1
[output]
dir = "run"
"""


def write_inputs(folder):
    model = os.path.join(folder, "model")
    engine_step.make_checkpoint("1.1b", model)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(os.path.join(TOKENIZER, name), os.path.join(model, name))
    words = random.Random(0)
    with open(os.path.join(folder, "train.jsonl"), "w") as file:
        for _ in range(4):
            text = " ".join("".join(words.choices("aeiounrstl", k=5)) for _ in range(600))
            file.write('{"text": "%s"}\n' % text)
    with open(os.path.join(folder, "federation.toml"), "w") as file:
        file.write(CONFIG)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default="build")
    parser.add_argument("--limit", default="3GB")
    arguments = parser.parse_args()
    programs = os.path.abspath(arguments.programs)
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(folder)
        print("| | peak memory | a step |\n|---|--:|--:|")
        begin = time.time()
        subprocess.run([os.path.join(programs, "bin/drystone"), "simulate", "federation.toml",
                        "--memory-limit", arguments.limit], cwd=folder, check=True,
                       stdout=subprocess.DEVNULL)
        seconds = time.time() - begin
        with open(os.path.join(folder, "run/report.json")) as file:
            peak = json.load(file)["peak_rss_bytes"] / 1e9
        print(f"| `drystone simulate --memory-limit {arguments.limit}`, two rounds of two steps "
              f"({seconds:.0f} s in all) | {peak:.2f} GB | |", flush=True)
        modules = ",".join(engine_step.ALL["llama"])
        for form in ("recompute", "keep"):
            turn = engine_step.run([os.path.join(programs, "bench/step_timer"),
                                    os.path.join(folder, "model"), "causal-lm", "512", "32000",
                                    "8", modules, "2", "nf4", form])
            print(f"| step_timer, {form} (loading: {turn['load_peak_mb'] / 1e3:.2f} GB) "
                  f"| {turn['peak_mb'] / 1e3:.2f} GB | {turn['wall_ms'] / 1e3:.1f} s |", flush=True)


if __name__ == "__main__":
    main()
