#!/usr/bin/env python3
"""Drystone's simulator beside its peers, in one run: Flower, pfl-research and a plain PyTorch loop.

    python3 -m venv runs/peers
    runs/peers/bin/pip install torch==2.13.0 transformers peft 'flwr[simulation]' pfl
    runs/peers/bin/python bench/simulation.py [--quick] [--cases 1x32,4x64,tiny,pfl] [--arms ...]

Without those packages (any python3) what needs them is left out, which is said. A peer's own best
set-up is in bench/simulation_peers.py. Drystone's workers, pfl's processes and Flower's actors have
one thread each and are as many as there are cores, as are the threads of "plain"; "plain-1" has
one. "drystone-auto": simulation.group = "auto".

Cases "1x32" and "4x64": a Llama of 15 million random weights (288 wide, 6 layers, 32,000 words),
LoRA of rank 8 on query and value, 100 clients of which 10 a round, one step of 1 x 32 tokens or two
of 4 x 64; averages of factors, as the peers make (--rule flora: Drystone by its default rule).
"pfl": the size of pfl's published benchmark: a Llama of 260 thousand weights, 1,000 clients of 50
texts, 50 a round, five steps of 10 x 16 tokens. "tiny": that Llama and one step of 8 tokens, so
that what is not training shows; beside it what all take without any step: the peers return what they were sent, Drystone (if
--overhead is there: cmake -DDRYSTONE_BUILD_BENCH=ON) an update that one client trained, changed in
one number. Last, Drystone alone by the number of listed clients (--listed, --million), 100 of them
a round; by the number that is asked (--asked) of the most listed; and through --long rounds.

Arms take turns in processes of their own, so that all meet the same machine. A round is warm after
the first --warm-up. "clients/s": by the median of a turn's warm rounds, then median and range of
the turns; "best": by the shortest warm round of all, nearest to a machine that nobody else uses.
"CPU": processor milliseconds of all the arm's processes in warm rounds, by clients. "first": from
the start of the program to the end of the first round. "MB": the most of the processes'
proportional set sizes together, looked at every 0.3 s, or of a process's own highest resident size.
Every turn is kept in turns.jsonl. Linux only.
"""
import argparse
import array
import contextlib
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import random
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

PLAIN = ["torch", "transformers", "peft"]
PEERS = {"plain": PLAIN,
         "plain-1": PLAIN,
         "pfl": [*PLAIN, "pfl"],
         "flower": [*PLAIN, "flwr", "ray"]}
PACKAGES = {"flwr": "'flwr[simulation]'", "ray": "'flwr[simulation]'", "torch": "torch==2.13.0"}
GROUPS = {"drystone": "1", "drystone-auto": '"auto"'}  # simulation.group
ARMS = [*GROUPS, *PEERS]
SHAPES = {  # hidden, layers, heads, key-value heads, feed-forward, vocabulary
    "15m": (288, 6, 6, 6, 768, 32000),
    "260k": (64, 5, 8, 4, 172, 512),
}
CASES = {  # shape, batch, tokens, steps
    "1x32": ("15m", 1, 32, 1),
    "4x64": ("15m", 4, 64, 2),
    "tiny": ("260k", 1, 8, 1),
    "pfl": ("260k", 10, 16, 5),
    "tiny, no step": ("260k", 1, 8, 0),
}
SIZES = {"pfl": (1000, 50)}  # clients, of which a round asks; else 100 and 10
CONFIG = """name = "simulation"
[model]
path = "{model}"
task = "causal-lm"
max_length = {length}
[data]
train = "{train}"
[federation]
rounds = {rounds}
cohort = {cohort}
[training]
rank = 8
alpha = 16
target_modules = ["q_proj", "v_proj"]
batch_size = {batch}
max_steps = {steps}
learning_rate = 1e-4
schedule = "constant"
warmup = 0.0
[[clients]]
count = {clients}
[aggregation]
rule = "{rule}"
[simulation]
workers = {cores}
group = {group}
[output]
dir = "{folder}/run"
"""


def write_checkpoint(shape, folder):
    """A Llama of random weights and a tokenizer of the words w3, w4, ...: standard library only."""
    hidden, layers, heads, kv, ffn, vocabulary = SHAPES[shape]
    width = hidden // heads
    names = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        names |= {at + "input_layernorm.weight": (hidden,),
                  at + "post_attention_layernorm.weight": (hidden,),
                  at + "self_attn.q_proj.weight": (hidden, hidden),
                  at + "self_attn.k_proj.weight": (kv * width, hidden),
                  at + "self_attn.v_proj.weight": (kv * width, hidden),
                  at + "self_attn.o_proj.weight": (hidden, hidden),
                  at + "mlp.gate_proj.weight": (ffn, hidden),
                  at + "mlp.up_proj.weight": (ffn, hidden),
                  at + "mlp.down_proj.weight": (hidden, ffn)}
    draw, body, header = random.Random(0), array.array("f"), {"__metadata__": {"format": "pt"}}
    some = [draw.gauss(0.0, 0.02) for _ in range(1 << 16)]
    for name, sizes in names.items():
        begin, count = 4 * len(body), sizes[0] * (sizes[1] if len(sizes) > 1 else 1)
        body.extend([1.0] * count if len(sizes) == 1 else draw.choices(some, k=count))
        header[name] = {"dtype": "F32", "shape": sizes, "data_offsets": [begin, 4 * len(body)]}
    text = json.dumps(header).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocabulary,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "use_cache": False, "bos_token_id": 1, "eos_token_id": 2}))
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, vocabulary)}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None,
        "decoder": None, "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"}}))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}')
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body.tobytes())


def checkpoint(shape, args):
    folder = args.out / "models" / shape
    if not (folder / "model.safetensors").exists():
        write_checkpoint(shape, folder)
    return folder


class Processes:
    """This program's descendants: processor time and memory, sampled on a thread of its own."""

    def __init__(self):
        self.samples = []  # time, processor seconds
        self.peak = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    @staticmethod
    def all():
        """Fields of /proc/PID/stat from the state on, of each descendant by its id."""
        found = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{entry.name}/stat",
                                                        encoding="utf-8") as file:
                    found[int(entry.name)] = file.read().rsplit(")", 1)[1].split()
        family = {os.getpid()}
        more = True
        while more:
            more = {pid for pid, stat in found.items()
                    if int(stat[1]) in family and pid not in family}
            family |= more
        return {pid: found[pid] for pid in family - {os.getpid()} if pid in found}

    @staticmethod
    def bytes_of(pid, file, key):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/{file}", encoding="utf-8") as lines:
            return next((1024 * int(line.split()[1]) for line in lines if line.startswith(key)), 0)
        return 0

    def sample(self):
        family = self.all()
        ticks = sum(int(ticks) for stat in family.values() for ticks in stat[11:15])
        self.samples.append((time.monotonic(), ticks / os.sysconf("SC_CLK_TCK")))
        together = sum(self.bytes_of(pid, "smaps_rollup", "Pss:") for pid in family)
        highest = max((self.bytes_of(pid, "status", "VmHWM:") for pid in family), default=0)
        self.peak = max(self.peak, together, highest)

    def watch(self):
        while not self.done.wait(0.3):
            self.sample()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        deadline = time.monotonic() + 5.0
        while self.all() and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid in self.all():  # what Ray may have left
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def processor_seconds(self, moment):
        """Between two samples: by proportion."""
        before = [s for s in self.samples if s[0] <= moment][-1:] or self.samples[:1]
        after = [s for s in self.samples if s[0] > moment][:1] or self.samples[-1:]
        (t0, cpu0), (t1, cpu1) = before[0], after[0]
        return cpu0 + (cpu1 - cpu0) * ((moment - t0) / (t1 - t0) if t1 > t0 else 0.0)


def marks_of(path, marks):
    """Appends the time for each round that a program has told since the last call."""
    with contextlib.suppress(FileNotFoundError):
        told = path.read_bytes().count(b'"event":"published"')
        marks += [time.monotonic()] * (told - len(marks))


def run(command, folder, marks_file, args):
    """Runs an arm. @return  times of its start and of its rounds' ends, and its processes; None
    when it failed, which is told"""
    marks, size = [], -1
    begin = time.monotonic()
    with (Processes() as processes, open(folder / "out.txt", "wb") as out,
          open(folder / "err.txt", "wb") as err,
          subprocess.Popen(command, stdout=out, stderr=err) as program):
        while program.poll() is None:
            time.sleep(0.002)
            with contextlib.suppress(FileNotFoundError):
                if marks_file.stat().st_size != size:
                    size = marks_file.stat().st_size
                    marks_of(marks_file, marks)
            if time.monotonic() - begin > args.timeout:
                program.kill()
        processes.sample()
    marks_of(marks_file, marks)
    if program.returncode != 0:
        last = (folder / "err.txt").read_text(errors="replace").strip().splitlines()[-1:]
        print(f"\n{folder.name}: failed with status {program.returncode}: {last} "
              f"({folder / 'err.txt'})\n", flush=True)
        return None
    return begin, marks, processes


def write_texts(path, clients, case, vocabulary):
    """As many texts as all clients' steps need, each one token longer than it is cut to."""
    _, batch, length, steps = case
    draw = random.Random(1)
    words = [f"w{i}" for i in range(3, vocabulary)]
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(clients * batch * steps):
            file.write('{"text": "%s"}\n' % " ".join(draw.choices(words, k=length + 1)))


def measure(arm, name, args, clients=None, cohort=None, rounds=None):
    """One turn of one arm. @return  dict of its figures, or None"""
    shape, batch, length, steps = CASES[name]
    if clients is None:
        clients, cohort = SIZES.get(name, (100, 10))
    folder = (args.out / f"{name}-{clients}-{arm}".replace(", ", "-").replace(" ", "-")).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = checkpoint(shape, args).resolve()
    case = dict(model=str(model), batch=batch, length=length, steps=steps, clients=clients,
                cohort=cohort, rounds=rounds or args.rounds, cores=args.cores)
    if arm in GROUPS:
        case["steps"] = max(steps, 1)
        train = args.out.resolve() / f"{shape}-{clients}-{batch * case['steps']}-{length}.jsonl"
        if not train.exists():
            write_texts(train, clients, (shape, batch, length, case["steps"]), SHAPES[shape][5])
        (folder / "federation.toml").write_text(CONFIG.format(
            **case, train=train, rule=args.rule, group=GROUPS[arm],
            folder=folder))
        marks_file = folder / "run" / "metrics.jsonl"
        command = ([args.drystone, "simulate", str(folder / "federation.toml")] if steps > 0
                   else [args.overhead, str(folder / "federation.toml"), str(folder / "run")])
    else:
        marks_file = folder / "marks"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        case |= dict(marks=str(marks_file), vocabulary=SHAPES[shape][5], port=port)
        peers = pathlib.Path(__file__).with_name("simulation_peers.py")
        command = [sys.executable, str(peers), arm, json.dumps(case)]
    outcome = run(command, folder, marks_file, args)
    if outcome is None:
        return None
    begin, marks, processes = outcome
    if len(marks) <= args.warm_up:
        raise SystemExit(f"{folder}: no more than {len(marks)} rounds were told; see err.txt there")
    warm = marks[args.warm_up - 1:]
    # A round of nothing can be shorter than what the marks tell.
    rounds = [max(end - start, 1e-3) for start, end in zip(warm, warm[1:])]
    seconds = statistics.median(rounds)
    cpu = processes.processor_seconds(warm[-1]) - processes.processor_seconds(warm[0])
    figures = dict(clients_s=cohort / seconds, best=cohort / min(rounds), round_s=seconds,
                   first_s=marks[0] - begin, cpu_ms=1e3 * cpu / len(rounds) / cohort,
                   mb=processes.peak / 1e6, all_s=rounds)
    with open(args.out / "turns.jsonl", "a", encoding="utf-8") as file:
        ends = [round(mark - begin, 3) for mark in marks]
        turn = dict(arm=arm, case=name, listed=clients, **figures, ends=ends)
        file.write(json.dumps(turn) + "\n")
    return figures


def median_of(turns, key):
    return statistics.median(turn[key] for turn in turns)


def spread_of(turns, key, digits):
    values = [turn[key] for turn in turns]
    low, high = (f"{end(values):.{digits}f}" for end in (min, max))
    return f"{statistics.median(values):.{digits}f}" + (f" ({low}–{high})" if low != high else "")


def compare(name, arms, args):
    """The table of one case: turns of all arms, one after the other."""
    if not arms:
        return {}
    shape, batch, length, steps = CASES[name]
    clients, cohort = SIZES.get(name, (100, 10))
    print(f"\n{name}: {shape}, {clients} clients, {cohort} a round, {steps} steps of {batch} x "
          f"{length} tokens;"
          f" {args.rounds} rounds, {args.turns} turns; load {os.getloadavg()[0]:.1f} before",
          flush=True)
    results = {arm: [] for arm in arms}
    for _ in range(args.turns):
        for arm in arms:
            figures = measure(arm, name, args)
            if figures:
                results[arm].append(figures)
    results = {arm: turns for arm, turns in results.items() if turns}
    ours = [arm for arm in results if arm in GROUPS]
    print(f"load {os.getloadavg()[0]:.1f} after\n\n| arm | clients/s | "
          + "".join(f"{own} / this | " for own in ours)
          + "best | CPU, ms | first, s | MB |\n|---|--:|" + "--:|" * (4 + len(ours)))
    for arm, turns in results.items():
        speed = median_of(turns, "clients_s")
        ratios = "".join(f"{median_of(results[own], 'clients_s') / speed:.2f} | " for own in ours)
        print(f"| {arm} | {spread_of(turns, 'clients_s', 1)} | {ratios}"
              f"{max(turn['best'] for turn in turns):.1f} | {spread_of(turns, 'cpu_ms', 1)} | "
              f"{spread_of(turns, 'first_s', 1)} | {median_of(turns, 'mb'):.0f} |", flush=True)
    return results


def print_overhead(one_step, none):
    """What a client costs beside its training."""
    print("\n| arm | without training, ms a client | CPU, ms | one step: ms | CPU, ms |"
          "\n|---|--:|--:|--:|--:|")
    for arm, turns in none.items():
        cells = [cell for case in (turns, one_step[arm])
                 for cell in (1e3 / median_of(case, "clients_s"), median_of(case, "cpu_ms"))]
        print(f"| {arm} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)


def growth(args):
    head = "first, s | a round, s | ms a client | CPU, ms | MB |\n|--:|--:|--:|--:|--:|--:|"
    cases = [(listed, 100) for listed in args.listed]
    cases += [(max(args.listed), asked) for asked in args.asked if args.listed]
    if cases:
        print("\nMany clients, 260k, one step of 8 tokens (drystone)\n\n| listed, asked | " + head)
    for listed, asked in cases:
        rounds = args.rounds if asked <= 1000 else args.warm_up + 1
        figures = measure("drystone", "tiny", args, listed, asked, rounds)
        if figures:
            print(f"| {listed:,}, {asked:,} | {figures['first_s']:.1f} | "
                  f"{figures['round_s']:.2f} | "
                  f"{1e3 * figures['round_s'] / asked:.2f} | {figures['cpu_ms']:.1f} | "
                  f"{figures['mb']:.0f} |", flush=True)
    if not args.long:
        return
    print("\nMany rounds, 260k, one step of 8 tokens, 1,000 clients, 100 a round (drystone)\n\n"
          "| rounds | the first ten, s a round | the last ten | MB |\n|--:|--:|--:|--:|")
    for rounds in (args.long // 10, args.long):
        figures = measure("drystone", "tiny", args, 1000, 100, rounds)
        if figures:
            ends = [statistics.median(part) for part in (figures["all_s"][:10],
                                                         figures["all_s"][-10:])]
            print(f"| {rounds} | {ends[0]:.3f} | {ends[1]:.3f} | {figures['mb']:.0f} |", flush=True)


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        fields = {key.strip(): text.strip() for key, text in
                  (line.split(":", 1) for line in file if ":" in line)}
    flags = fields.get("flags", "").split()
    level = next((name for name in ("amx_bf16", "avx512f", "avx2") if name in flags), "no AVX2")
    name, family = fields.get("model name", platform.machine()), fields.get("cpu family", "?")
    return (f"{name} (family {family}, model {fields.get('model', '?')}, {level}), "
            f"{os.cpu_count()} cores")


def versions(args):
    told = subprocess.run([args.drystone, "--version"], capture_output=True, text=True, check=True)
    parts = [told.stdout.splitlines()[0], f"Python {platform.python_version()}"]
    for package in ("torch", "transformers", "peft", "flwr", "ray", "pfl"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f"{package} {importlib.metadata.version(package)}")
    return ", ".join(parts)


def present(arm):
    missing = [package for package in PEERS.get(arm, []) if not importlib.util.find_spec(package)]
    if missing:
        names = " ".join(dict.fromkeys(PACKAGES.get(package, package) for package in missing))
        print(f"{arm}: left out, as {sys.executable} lacks {', '.join(missing)}; make a virtual "
              f"environment, have it `pip install {names}`, and run this with its python")
    return not missing


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drystone", default="build/bin/drystone")
    parser.add_argument("--overhead", default="build/bench/simulation_overhead")
    parser.add_argument("--arms", default=",".join(ARMS), help="some of the default, with commas")
    parser.add_argument("--cases", default="1x32,4x64,tiny", help="some of these and pfl, or ''")
    parser.add_argument("--rounds", type=int, default=12, help="of each turn")
    parser.add_argument("--warm-up", type=int, default=2, help="rounds of these that do not count")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rule", default="fedit", choices=["fedit", "flora", "zero-pad"])
    parser.add_argument("--listed", type=int, nargs="*", default=[1000, 10000, 100000])
    parser.add_argument("--asked", type=int, nargs="*", default=[], help="e.g. 10 1000 10000")
    parser.add_argument("--long", type=int, default=0, help="rounds of one run, e.g. 100")
    parser.add_argument("--million", action="store_true", help="a million listed clients as well")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for an arm's turn")
    parser.add_argument("--quick", action="store_true",
                        help="4 rounds, one turn, the first of --listed")
    parser.add_argument("--out", type=pathlib.Path, default="runs/simulation")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.turns, args.listed = 4, 1, args.listed[:1]
    if args.million:
        args.listed.append(10**6)
    names = [name for name in args.cases.split(",") if name]
    unknown = set(names) - {"1x32", "4x64", "tiny", "pfl"} | set(args.arms.split(",")) - set(ARMS)
    if unknown or args.rounds <= args.warm_up:
        parser.error(f"unknown: {', '.join(sorted(unknown))}" if unknown
                     else "--rounds: more than --warm-up")
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what an arm leaves behind stays ours
    print(f"{processor()}; {versions(args)}; rule {args.rule}")
    arms = [arm for arm in args.arms.split(",") if present(arm)]
    results = {name: compare(name, arms, args) for name in names}
    if "tiny" in results:
        bare = [arm for arm in arms if arm in PEERS or pathlib.Path(args.overhead).exists()]
        print_overhead(results["tiny"], compare("tiny, no step", bare, args))
    growth(args)


if __name__ == "__main__":
    main()
