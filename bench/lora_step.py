"""Local training with LoRA on MiniLM: Drystone beside transformers with PEFT.

Run from the repository's root after `./dev demo` and `./dev bench`:
    .venv/bin/python bench/lora_step.py
Rank 8 on every linear layer, batches of 16 × 64 tokens, the model's own dropout, AdamW, one thread;
processor time of one optimiser step. The two take turns in processes of their own, so that both meet
the same machine; the medians of all turns are compared. Memory is resident memory at its peak: of
the whole process, and beyond what it held before the first step.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
ROWS, TOKENS, STEPS = 16, 64, 10


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def peft_turn(model_folder):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(1)
    base = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=20)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="SEQ_CLS")
    model = get_peft_model(base, lora).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-4, weight_decay=0.0)
    batch = dict(input_ids=torch.randint(1000, 30000, (ROWS, TOKENS)),
                 attention_mask=torch.ones(ROWS, TOKENS, dtype=torch.long),
                 labels=torch.arange(ROWS))
    before, times = resident_mb(), []
    for _ in range(STEPS + 2):
        begin = time.process_time()
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(1e3 * (time.process_time() - begin))
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024 / 1e6
    return dict(ms=statistics.median(times[2:]), before=before, peak=peak)


def drystone_turn(program, model_folder):
    environment = dict(os.environ, DRYSTONE_MINILM=model_folder)
    answer = subprocess.run([program, "--benchmark_format=json"], check=True, capture_output=True,
                            env=environment).stdout
    run = json.loads(answer)["benchmarks"][0]
    return dict(ms=run["cpu_time"] / run["steps"], before=run["before_mb"], peak=run["peak_mb"])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/bench/client_bench")
    parser.add_argument("--model", default=".data/news/model")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peft-turn", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peft_turn:
        print(json.dumps(peft_turn(arguments.model)))
        return
    peft, drystone = [], []
    for _ in range(arguments.turns):
        command = [sys.executable, __file__, "--peft-turn", "--model", arguments.model]
        answer = subprocess.run(command, check=True, capture_output=True).stdout
        peft.append(json.loads(answer.splitlines()[-1]))
        drystone.append(drystone_turn(arguments.program, arguments.model))
    print("| | transformers + PEFT | Drystone | ratio |\n|---|---|---|---|")
    for what, value in [("one step, ms", lambda turn: turn["ms"]),
                        ("peak memory, MB", lambda turn: turn["peak"]),
                        ("of that beyond the loaded model, MB", lambda t: t["peak"] - t["before"])]:
        theirs, ours = (statistics.median(map(value, side)) for side in (peft, drystone))
        print(f"| {what} | {theirs:.0f} | {ours:.0f} | {theirs / ours:.2f} |")


if __name__ == "__main__":
    main()
