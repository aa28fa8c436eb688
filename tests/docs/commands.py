"""Every command that README and docs show: its program, options, files and presets exist, and those of
README's path from a configuration to a used adapter run, on a federation that trains in a second.

    python3 tests/docs/commands.py BINARY_DIR
"""
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
STARTS = re.compile(r"^(?:\$ )?((?:build/bin/)?drystone(?:-client|-coordinator)?(?: |$)|\./dev |cmake |ctest "
                    r"|build/bench/|(?:\.venv/bin/)?python3? |bash )")


def pieces(text):
    """Lines of code blocks, with continuation lines joined, and what stands in backticks."""
    text = text.replace("\\\n", " ")
    fence, prose = False, []
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fence = not fence
        elif fence or line.startswith("    "):
            yield line.strip()
        else:
            prose.append(line)
    for span in re.findall(r"`([^`]+)`", " ".join(prose)):
        yield " ".join(span.split())


def commands():
    for page in PAGES:
        for piece in pieces(page.read_text(encoding="utf-8")):
            for part in re.split(r" && | \| ", piece):
                part = re.sub(r"\s{2,}#.*", "", part)
                if STARTS.match(part) and not part.startswith("drystone: "):
                    yield page.relative_to(ROOT), part.removeprefix("$ ").replace("…", "X")


class Checker:
    def __init__(self, binary_dir):
        self.bin = binary_dir / "bin"
        self.helps = {}
        self.problems = []

    def help_of(self, *words):
        if words not in self.helps:
            done = subprocess.run([self.bin / words[0], *words[1:], "--help"], capture_output=True,
                                  text=True, check=False)
            self.helps[words] = done.stdout if done.returncode == 0 else None
        return self.helps[words]

    def program(self, words):
        name = words[0].split("/")[-1]
        scope = [name]
        if name == "drystone" and len(words) > 1 and not words[1].startswith("-"):
            scope.append(words[1])
        text = self.help_of(*scope)
        if len(scope) == 2 and not re.search(rf"^  {scope[1]} ", self.help_of(name), re.M):
            return f"{' '.join(scope)} is no command"
        known = set(re.findall(r"--[a-z][a-z-]*", text))
        given = [word.split("=")[0] for word in words if word.startswith("--")]
        wrong = [word for word in given if word not in known]
        if wrong:
            return f"{' '.join(scope)} has no {', '.join(wrong)}"
        return self.keys([words[i + 1] for i, word in enumerate(words[:-1]) if word == "--set"])

    def keys(self, assignments):
        documented = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
        for assignment in assignments:
            key = assignment.split("=")[0].split(".")[-1]
            if f"| `{key}`" not in documented:
                return f"--set {assignment}: no such key"
        return None

    def file(self, path):
        return None if (ROOT / path).exists() else f"{path} does not exist"

    def preset(self, words):
        names = {preset["name"] for preset in
                 json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]}
        given = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--preset"]
        wrong = [name for name in given if name not in names]
        return f"no preset {', '.join(wrong)}" if wrong else None

    def check(self, command):
        words = shlex.split(command, comments=True)
        first = words[0]
        if first.split("/")[-1].startswith("drystone"):
            return self.program(words)
        if first == "./dev":
            usage = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True)
            return None if re.search(rf"^  {words[1]} ", usage.stdout, re.M) else f"no ./dev {words[1]}"
        if first in ("cmake", "ctest"):
            return self.preset(words)
        if first.startswith("build/bench/"):
            name = first.split("/")[-1]
            made = (ROOT / "bench/CMakeLists.txt").read_text()
            return None if re.search(rf"\({name}\b", made) else f"bench makes no {name}"
        scripts = [word for word in words[1:] if word.endswith((".py", ".sh"))]
        return self.file(scripts[0]) if scripts else None


CONFIG = """name = "tiny"
seed = 7
[model]
path = "model"
max_length = 8
[data]
train = "train.jsonl"
test = "test.jsonl"
[federation]
rounds = 1
deadline = "1min"
[training]
max_steps = 2
batch_size = 4
[[clients]]
count = 2
rank = 2
[output]
dir = "RUN"
"""


def make_federation(folder):
    fixture = ROOT / "tests/models/fixtures/bert_tiny"
    (folder / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(fixture / name, folder / "model" / name)
    words = [chr(letter) for letter in range(ord("a"), ord("p"))]
    (folder / "model/vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    for name, count in (("train.jsonl", 24), ("test.jsonl", 9)):
        rows = [{"text": f"{words[i % 3]} {words[3 + i % 12]}", "label": f"class-{i % 3}"}
                for i in range(count)]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "federation.toml").write_text(CONFIG)


# What README's commands mean in that folder, in the order in which a reader meets them.
STEPS = [
    ("build/bin/drystone simulate federation.toml", {}),
    ("build/bin/drystone provision federation.toml --out parties --address tcp://HOST:5570",
     {"tcp://HOST:5570": "tcp://127.0.0.1:{port}"}),
    ("drystone evaluate --model M --adapter RUN/global --data test.jsonl", {"M": "model"}),
    ("drystone merge --model M --adapter RUN/global --out DIR", {"M": "model", "DIR": "merged"}),
    ("drystone export --adapter RUN/global --format gguf --out FILE",
     {"FILE": "adapter.gguf"}),
]


def free_port():
    import socket
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def walk(checker, shown, folder):
    """Runs README's own words."""
    port = str(free_port())
    for command, meaning in STEPS:
        if command not in shown:
            checker.problems.append(f"README.md no longer shows `{command}`: change STEPS with it")
            continue
        words = [meaning.get(word, word).replace("{port}", port) for word in shlex.split(command)]
        words[0] = checker.bin / words[0].split("/")[-1]
        if words[1] == "export":  # a classifier has no GGUF form: PEFT's
            words = ["peft" if word == "gguf" else word for word in words]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            checker.problems.append(f"`{command}` ends with {done.returncode}: {done.stderr.strip()}")
    deploy(checker, folder)


def deploy(checker, folder):
    parties = folder / "parties"
    if not parties.exists():
        return
    running = [subprocess.Popen([checker.bin / "drystone-client", "client.toml"], cwd=parties / name,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for name in ("client-1", "client-2", "evaluator")]
    server = subprocess.run([checker.bin / "drystone-coordinator", "coordinator.toml"],
                            cwd=parties / "coordinator", capture_output=True, text=True, check=False)
    ends = [client.wait(timeout=120) for client in running]
    if server.returncode != 0 or any(ends):
        checker.problems.append(f"the deployed federation ends with {server.returncode} and {ends}: "
                                f"{server.stderr.strip()[-500:]}")
    verify = subprocess.run([checker.bin / "drystone", "inspect", "coordinator/run", "--verify"],
                            cwd=parties, capture_output=True, text=True, check=False)
    if verify.returncode != 0:
        checker.problems.append(f"inspect --verify: {verify.stdout}{verify.stderr}")


def main():
    os.environ["OMP_NUM_THREADS"] = "1"
    checker = Checker(pathlib.Path(sys.argv[1]).resolve())
    shown, count = set(), 0
    for page, command in commands():
        count += 1
        if page.name == "README.md":
            shown.add(command)
        problem = checker.check(command)
        if problem:
            checker.problems.append(f"{page}: `{command}`: {problem}")
    if count < 40:
        checker.problems.append(f"only {count} commands found")
    with tempfile.TemporaryDirectory(prefix="drystone-docs-") as folder:
        make_federation(pathlib.Path(folder))
        walk(checker, shown, pathlib.Path(folder))
    for problem in checker.problems:
        print(problem)
    print(f"{count} commands, {len(checker.problems)} problems")
    return 1 if checker.problems else 0


if __name__ == "__main__":
    sys.exit(main())
