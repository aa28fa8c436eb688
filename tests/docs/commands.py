"""Runs every command that README and docs show, as meanings.py reads it, in a checkout of tiny stand-ins, and
every configuration of examples for one round. What no test can run stands in meanings.py with the reason; of
that words.py checks presets, targets, files and options.

    python3 tests/docs/commands.py BINARY_DIR
"""
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile

import meanings
import standins
import words

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PREFIX = re.compile(r"^(?:\$ |[A-Z_]+=\S+ |nice -n \d+ |/usr/bin/time -v )+")
STARTS = re.compile(r"(?:build/bin/)?drystone(?:-client|-coordinator)?(?: |$)|build/(?:bin|bench)/|\./dev "
                    r"|cmake |ctest |(?:\.venv/bin/)?python3? |bash |zcat "
                    r"|(?:bench|tools|examples|tests)/\S+\.(?:py|sh) ")
SECONDS = 240  # for one command, on a busy machine


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
        yield span


def commands():
    for page in PAGES:
        for piece in pieces(page.read_text(encoding="utf-8")):
            for part in piece.split(" && "):
                part = PREFIX.sub("", " ".join(re.sub(r"\s{2,}#.*", "", part).split()))
                if STARTS.match(part) and not part.startswith("drystone: "):
                    yield page.relative_to(ROOT), part


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Shell:
    """Runs lines in the stand-in checkout and remembers what failed."""

    def __init__(self, folder, programs):
        self.folder = folder
        self.problems = []
        self.environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
                                         "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, lines, folders=(".",)):
        """All at the same time, each in its folder."""
        started = [self.start(line, folder) for line, folder in zip(lines, folders)]
        for line, (process, log) in zip(lines, started):
            status = wait(process)
            log.seek(0)
            output = log.read().strip()
            log.close()
            if status != 0:
                self.problems.append(f"`{line}` ends with {status}: {output[-500:]}")

    def start(self, line, folder):
        log = tempfile.TemporaryFile("w+")
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line], cwd=self.folder / folder, start_new_session=True,
            env=self.environment | {"DRYSTONE_DEMO_PORT": free_port()},
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        return process, log


def wait(process):
    """Its status; after SECONDS it is killed with all that it started."""
    try:
        return process.wait(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def meant(command, rest, means):
    """The words to run: all that are shown, each placeholder by its meaning, and what completes them."""
    line = f"{command} {rest}".strip()
    if means:
        names = "|".join(map(re.escape, sorted(means, key=len, reverse=True)))
        line = re.sub(rf"(?<![\w/.-])({names})(?![\w.-])", lambda name: means[name[0]], line)
    return line.replace("{port}", free_port())


def run_group(shell, group):
    lines = [meant(command, rest, group.means) for command, rest in group.rows]
    if group.folders:
        shell.run(lines, group.folders)
    else:
        for line in lines:
            shell.run([line])


def examples():
    """Those that no row runs; a posterior after what it is of."""
    shown = " ".join(command for group in meanings.GROUPS for command, _ in group.rows)
    files = sorted((file for file in (ROOT / "examples").rglob("*.toml") if file.parent.name != "devices"),
                   key=lambda file: ("laplace" in file.name, file))
    names = [str(file.relative_to(ROOT)) for file in files]
    return [name for name in names if name not in shown]


def run_examples(shell):
    shell.run(["python3 examples/dolly/prepare.py databricks-dolly-15k.jsonl"])
    for name in examples():
        line = f"drystone simulate {name} --set federation.rounds=1"
        shell.run(["bash examples/news/demo.sh" if name == "examples/news/demo.toml" else line.strip()])


def compare(shown, rows):
    """Pages and table name the same commands."""
    for command, page in shown.items():
        if command not in rows and command not in meanings.NOT_RUN:
            yield f"{page}: `{command}`: add a row for it in tests/docs/meanings.py, or a reason to NOT_RUN"
    for command in [*rows, *meanings.NOT_RUN]:
        if command not in shown:
            yield f"no page shows `{command}` any more: take it out of tests/docs/meanings.py"
    for command in set(rows) & set(meanings.NOT_RUN):
        yield f"`{command}` is in a row and in NOT_RUN of tests/docs/meanings.py"


def main():
    programs = pathlib.Path(sys.argv[1]).resolve() / "bin"
    shown = {}
    for page, command in commands():
        shown.setdefault(command, page)
    rows = [command for group in [meanings.PREPARED, *meanings.GROUPS] for command, _ in group.rows]
    problems = list(compare(shown, rows))
    for command in set(shown) & set(meanings.NOT_RUN):
        problem = words.check(command)
        if problem:
            problems.append(f"{shown[command]}: `{command}`: {problem}")
    with tempfile.TemporaryDirectory(prefix="drystone-docs-") as folder:
        folder = pathlib.Path(folder)
        standins.make_checkout(folder, ROOT, programs)
        shell = Shell(folder, programs)
        run_group(shell, meanings.PREPARED)
        run_examples(shell)
        for group in meanings.GROUPS:
            run_group(shell, group)
        problems += shell.problems
    for problem in problems:
        print(problem)
    print(f"{len(shown)} commands, {len(rows)} run, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
