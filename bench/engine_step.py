"""One training step: Drystone beside transformers with PEFT, on random checkpoints of known shapes.

    ./dev bench && .venv/bin/python bench/engine_step.py [--shapes 15m,110m,roberta] [--turns 3]

float32 (or --precision bfloat16: autocast; bfloat16-model: the base's weights are), one thread, LoRA
with AdamW, no dropout; processor time of a step (median of --steps) and the peak of resident memory of the whole process, and what of it
is anonymous: the rest are pages of files, libraries and the checkpoint, which the system may take
back. With --device cuda: time by the clock until the GPU is done, and the peak of what tensors hold
there; transformers takes flash_attn where it is installed and the precision is bfloat16, else
PyTorch's fused attention. The two take turns in processes of their own, so that both meet the same
machine; medians over the turns. "fixed": rows of 128 tokens; "spread": lengths as instruction data has them, which
transformers pads to the longest.
Processor and the instruction sets that each side's libraries say they used are printed with the table:
the ratio holds for that processor alone.
"of peak": floating-point operations that the step cannot do without (see `operations`), by its time
and by the speed of large products just before it.
"""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "1"
DECODERS = {  # hidden, layers, heads, key-value heads, feed-forward, vocabulary, tied
    "15m": (288, 6, 6, 6, 768, 32000, True),
    "110m": (768, 12, 12, 12, 2048, 32000, True),
    "1.1b": (2048, 22, 32, 4, 5632, 32000, False),
}
ROBERTA = (768, 12, 12, 12, 3072, 50265, False)
QV = {"llama": ["q_proj", "v_proj"], "roberta": ["query", "value"]}
ALL = {"llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
       "roberta": ["query", "key", "value", "dense"]}
SPREAD = [23, 31, 38, 46, 57, 72, 95, 128]


def family(shape):
    return "roberta" if shape == "roberta" else "llama"


def vocabulary(shape):
    return 50265 if shape == "roberta" else DECODERS[shape][5]


def operations(row):
    """Of one step: the linear layers' products on real tokens, forward and for the gradient of their
    input where a trained parameter lies below; the adapters' thin products; attention over the pairs
    that see each other; the head at labelled positions."""
    encoder = row["family"] == "roberta"
    hidden, layers, _, _, wide, vocab, _ = ROBERTA if encoder else DECODERS[row["shape"]]
    heads, kv = (ROBERTA if encoder else DECODERS[row["shape"]])[2:4]
    kv_width = hidden // heads * kv
    tokens, rows, rank = sum(row["lengths"]), len(row["lengths"]), row["rank"]
    qv = len(row["modules"]) == 2
    attention = [(hidden, hidden, True), (kv_width, hidden, not qv), (kv_width, hidden, True)]
    after = [(hidden, hidden, not qv)]
    after += [(wide, hidden, not qv), (hidden, wide, not qv)]
    after += [] if encoder else [(wide, hidden, not qv)]
    total = 0
    for layer in range(layers):
        last = layer == layers - 1
        behind = (rows if encoder else tokens - rows) if last else tokens
        for index, (out, inner, adapted) in enumerate(attention + after):
            count = tokens if index < 3 else behind
            if last and encoder and index == 0:
                count = rows  # the query of one token
            below = layer > 0 or index >= 3
            total += 2 * count * out * inner * (2 if below else 1)
            if adapted:
                total += 2 * count * rank * (out + inner) * (3 if below else 2.5)
        pairs = sum(n * n if encoder else n * (n + 1) / 2 for n in row["lengths"])
        if last and encoder:
            pairs = sum(row["lengths"])
        total += 3 * 2 * 2 * pairs * hidden  # two products forward, four backward
    return total + (0 if encoder else 2 * 2 * (tokens - rows) * hidden * vocab)


def make_checkpoint(shape, folder):
    import torch
    from transformers import (LlamaConfig, LlamaForCausalLM, RobertaConfig,
                              RobertaForSequenceClassification)
    torch.manual_seed(0)
    if shape == "roberta":
        config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1,
                               hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                               num_labels=2)
        RobertaForSequenceClassification(config).save_pretrained(folder)
        return
    hidden, layers, heads, kv, ffn, vocab, tied = DECODERS[shape]
    config = LlamaConfig(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                         num_key_value_heads=kv, intermediate_size=ffn, vocab_size=vocab,
                         tie_word_embeddings=tied, max_position_embeddings=1024)
    model = LlamaForCausalLM(config)
    if shape == "1.1b":
        model = model.to(torch.bfloat16)  # as such checkpoints are published
    model.save_pretrained(folder)


def peft_turn(row):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    torch.set_num_threads(1)
    encoder = row["family"] == "roberta"
    loader = AutoModelForSequenceClassification if encoder else AutoModelForCausalLM
    device, on_gpu = torch.device(row["device"]), row["device"] != "cpu"
    narrow = row["precision"] != "float32"
    flash = on_gpu and narrow and importlib.util.find_spec("flash_attn") is not None
    whole = row["precision"] == "bfloat16-model"
    base = loader.from_pretrained(row["folder"], dtype=torch.bfloat16 if whole else torch.float32,
                                  attn_implementation="flash_attention_2" if flash else "sdpa")
    lora = LoraConfig(r=row["rank"], lora_alpha=16, target_modules=row["modules"],
                      task_type="SEQ_CLS" if encoder else "CAUSAL_LM")
    model = get_peft_model(base, lora).train().to(device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4,
                                  weight_decay=0.0)
    lengths = torch.tensor(row["lengths"])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    ids = torch.randint(3, row["vocab"], mask.shape)
    batch = dict(input_ids=ids, labels=ids.masked_fill(mask == 0, -100))
    if encoder:
        batch["labels"] = torch.zeros(len(lengths), dtype=torch.long)
    if int(mask.min()) == 0:
        batch["attention_mask"] = mask
    cpu, wall = [], []
    rounds = torch.autocast(device.type, torch.bfloat16, enabled=narrow and not whole)
    for _ in range(row["steps"] + 2):
        cpu_begin, wall_begin = time.process_time(), time.perf_counter()
        with rounds:
            loss = model(**{name: part.to(device) for name, part in batch.items()}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        cpu.append(1e3 * (time.process_time() - cpu_begin))
        wall.append(1e3 * (time.perf_counter() - wall_begin))
    with open("/proc/self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    megabytes = lambda key: int(status[key].split()[0]) * 1024 / 1e6
    peak = torch.cuda.max_memory_allocated() / 1e6 if on_gpu else megabytes("VmHWM")
    return dict(cpu_ms=statistics.median(cpu[2:]), wall_ms=statistics.median(wall[2:]),
                peak_mb=peak, file_mb=0 if on_gpu else megabytes("RssFile"))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr.strip() or f"{command[0]} failed")
    return json.loads(done.stdout.splitlines()[-1])


def processor():
    with open("/proc/cpuinfo") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    fields = {key.strip(): text.strip() for key, text in fields.items()}
    flags = fields.get("flags", "").split()
    level = next((name for name in ("amx_bf16", "avx512f", "avx2") if name in flags), "neither AVX2")
    return (f"{fields.get('model name', '?')} (family {fields.get('cpu family', '?')}, model "
            f"{fields.get('model', '?')}), offers {level}")


def instruction_sets(command):
    """What the two product libraries of a process say that they run on, and how often each was
    called: MKL's and oneDNN's own verbose lines."""
    verbose = dict(os.environ, MKL_VERBOSE="1", ONEDNN_VERBOSE="2")
    done = subprocess.run(command, capture_output=True, text=True, env=verbose)
    lines = (done.stdout + done.stderr).splitlines()
    mkl = next((line for line in lines if line.startswith("MKL_VERBOSE") and "for" in line), "")
    isa = next((line.split("isa:")[1] for line in lines if ",isa:" in line), "")
    mkl_calls = sum("GEMM" in line for line in lines if line.startswith("MKL_VERBOSE"))
    dnn_calls = sum(",exec," in line and "matmul" in line for line in lines)
    mkl = mkl.split(" for ", 1)[1].split(", Lnx")[0] if mkl else "not called"
    return (f"MKL: {mkl_calls} products on [{mkl}]; oneDNN: {dnn_calls} products on "
            f"[{isa or 'not called'}]")


def drystone_command(program, row):
    task = "classification" if row["family"] == "roberta" else "causal-lm"
    lengths = ",".join(map(str, row["lengths"]))
    return [program, row["folder"], task, lengths, str(row["vocab"]), str(row["rank"]),
            ",".join(row["modules"]), str(row["steps"]), "none", "keep", "auto", row["precision"],
            row["device"]]


def drystone_turn(program, row):
    return run(drystone_command(program, row))


def rows_of(arguments, folder):
    for shape in arguments.shapes.split(","):
        checkpoint = os.path.join(folder, shape)
        make_checkpoint(shape, checkpoint)
        for batch in map(int, arguments.batches.split(",")):
            for targets in arguments.targets.split(","):
                for rank in map(int, arguments.ranks.split(",")):
                    modules = (QV if targets == "qv" else ALL)[family(shape)]
                    for lengths in arguments.lengths.split(","):
                        if lengths == "spread" and batch == 1:
                            continue
                        spread = (SPREAD * batch)[:batch] if batch >= 8 else SPREAD[1::2][:batch]
                        yield dict(shape=shape, family=family(shape), folder=checkpoint,
                                   batch=batch, targets=targets, rank=rank, modules=modules,
                                   kind=lengths, vocab=vocabulary(shape), steps=arguments.steps,
                                   precision=arguments.precision, device=arguments.device,
                                   lengths=[128] * batch if lengths == "fixed" else spread)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/bench/step_timer")
    parser.add_argument("--shapes", default="15m,110m,roberta")
    parser.add_argument("--batches", default="1,4,8")
    parser.add_argument("--targets", default="qv,all")
    parser.add_argument("--ranks", default="8,64")
    parser.add_argument("--lengths", default="fixed,spread")
    parser.add_argument("--precision", default="float32",
                        choices=["float32", "bfloat16", "bfloat16-model"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--peft-turn", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peft_turn:
        print(json.dumps(peft_turn(json.loads(arguments.peft_turn))))
        return
    print(f"{processor()}; one thread\n")
    print("| shape | rows | lengths | adapters | rank | PEFT ms | Drystone ms | speed | of peak "
          "| PEFT MB | Drystone MB | memory | PEFT anon. | Drystone anon. | anon. |\n"
          "|---|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        used = None
        for row in rows_of(arguments, folder):
            if used is None:  # of the first row; the others differ in shapes alone
                once = dict(row, steps=1)
                peft_command = [sys.executable, __file__, "--peft-turn", json.dumps(once)]
                used = [instruction_sets(peft_command),
                        instruction_sets(drystone_command(arguments.program, once))]
            peft, ours, gflops = [], [], []
            for _ in range(arguments.turns):
                operand = row["precision"].removesuffix("-model")
                peak = run([arguments.program, "--peak", operand, row["device"]])
                gflops.append(peak["gflops"])
                peft.append(run([sys.executable, __file__, "--peft-turn", json.dumps(row)]))
                ours.append(drystone_turn(arguments.program, row))
            clock = "cpu_ms" if row["device"] == "cpu" else "wall_ms"
            ms = [statistics.median(t[clock] for t in side) for side in (peft, ours)]
            mb = [statistics.median(t["peak_mb"] for t in side) for side in (peft, ours)]
            anon = [statistics.median(t["peak_mb"] - t["file_mb"] for t in side)
                    for side in (peft, ours)]
            share = operations(row) / (ms[1] * 1e6 * statistics.median(gflops))
            print(f"| {row['shape']} | {row['batch']} | {row['kind']} | {row['targets']} "
                  f"| {row['rank']} | {ms[0]:.0f} | {ms[1]:.0f} | {ms[0] / ms[1]:.2f} "
                  f"| {100 * share:.0f} % | {mb[0]:.0f} | {mb[1]:.0f} | {mb[1] / mb[0]:.2f} "
                  f"| {anon[0]:.0f} | {anon[1]:.0f} | {anon[1] / anon[0]:.2f} |", flush=True)
    print(f"\nPEFT: {used[0]}\nDrystone: {used[1]}")


if __name__ == "__main__":
    main()
