#!/usr/bin/env python3
"""Changes one place of a folder's sources at a time and asks whether its tests notice.

    tools/mutate.py wire crypto --build build --number 50 --seed 0 --skip wire/text.cpp

takes a random sample of the mutants of wire/*.cpp and crypto/*.cpp, at most one a line, builds
drystone_FOLDER_tests with each and runs it. One that does not compile is not counted, one whose tests
fail or take too long is killed, and the rest are printed: each is a missing test, or changes nothing
that anybody could see. Sources are changed in place and put back: run it in a worktree of its own.
Results are appended to runs/mutants/FOLDER.jsonl; a run that was stopped goes on from there.
"""

import argparse
import functools
import json
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
from typing import Iterator, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
# clang-format puts blanks around binary operators, and none inside template brackets.
PAIRS = [(" < ", " <= "), (" > ", " >= "), (" == ", " != "), (" + ", " - "), (" * ", " / "),
         (" += ", " -= "), ("++", "--"), (" && ", " || "), ("true", "false"), ("::min(", "::max(")]
SWAPS = {old: new for one, other in PAIRS for old, new in ((one, other), (other, one))}
SWAP = re.compile("|".join(rf"(?<!\w){re.escape(old)}(?!\w)" if old.isalpha() else re.escape(old)
                           for old in SWAPS))
INTEGER = re.compile(r"(?<![\w.'])(0|[1-9]\d*)(?![\w.'])")
NEGATION = re.compile(r"(?<![\w!=])!(?=[\w(])")
NESTED = functools.reduce(lambda inner, _: rf"(?:[^();]|\({inner}\))*", range(5), "")
CONDITION = re.compile(rf"\b(?:if|while) \((?!auto\b|const\b)({NESTED})\)")
RETURN = re.compile(r"\breturn (?!(?:\{\}|std::nullopt|nullptr|false|0|0\.0);)([^;]+);")
JUMP = re.compile(r"\b(?:break|continue)(?=;)")
STATEMENT = re.compile(r"^( *)(?!return|throw|else|case|default|delete|using|goto)(?!.*\.reserve\()"
                       r"(?:[\w:.\[\]>*-]+\((?:[^;{}]|\{[^;{}]*\})*\)"
                       r"|[\w.\[\]>*-]+ [|&+-]?= [^;{}]+);", re.M)
LITERAL = re.compile(r"""//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|"""
                     r"""(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'|^[ ]*\#[^\n]*""", re.S | re.M)
UNTESTED = re.compile(r"\b(?:log_\w+|static_assert)\([^;]*")
DOES_NOT_COMPILE = "does not compile"


class Mutant(NamedTuple):
    file: str
    line: int
    before: str  # its lines as one
    after: str
    source: str  # the whole changed file


def code_of(source: str) -> str:
    """The source as long as it was: blanks for comments, quotation marks for texts and logging."""
    fill = lambda match: re.sub(r"[^\n]", " " if match[0][0] in "/# " else '"', match[0])
    return UNTESTED.sub(fill, LITERAL.sub(fill, source))


def changes(source: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, new text) of every mutant."""
    code = code_of(source)
    for match in SWAP.finditer(code):
        beside = code[match.start() - 1] + code[match.end():].lstrip()[:1]
        if match[0] not in (" + ", " / ") or '"' not in beside:  # joined texts and paths
            yield *match.span(), SWAPS[match[0]]
    for match in INTEGER.finditer(code):
        yield *match.span(), str(int(match[0]) + 1)
        if int(match[0]) > 0:
            yield *match.span(), str(int(match[0]) - 1)
    for pattern, group, text in ((NEGATION, 0, ""), (RETURN, 1, "{}"), (JUMP, 0, "")):
        for match in pattern.finditer(code):
            yield *match.span(group), text
    for match in CONDITION.finditer(code):
        yield *match.span(1), f"!({source[match.start(1):match.end(1)]})"
    for match in STATEMENT.finditer(code):
        if code[:match.start()].rstrip()[-1:] in ";{}:":
            yield match.end(1), match.end(), ";"


def mutants_of(name: str) -> Iterator[Mutant]:
    source = (ROOT / name).read_text()
    for start, end, text in changes(source):
        line_start = source.rfind("\n", 0, start) + 1
        line_end = source.find("\n", end)
        after = source[line_start:start] + text + source[end:line_end]
        yield Mutant(name, source.count("\n", 0, start) + 1,
                     " ".join(source[line_start:line_end].split()), " ".join(after.split()),
                     source[:start] + text + source[end:])


def limit_itself(cpu_seconds: int) -> None:
    """A mutant may want all the time, the memory and the disk."""
    for what, most in (("CPU", cpu_seconds), ("DATA", 8 << 30), ("FSIZE", 1 << 30)):
        resource.setrlimit(getattr(resource, f"RLIMIT_{what}"), (most, most))


def failure_of(target: str, options: argparse.Namespace, choice: str = "") -> str:
    """The test case that fails, "" if none does. Ten times its processor time is for what waits
    without end."""
    command = [options.build / "bin" / target, "--abort-after=1", choice,
               f"--test-case-exclude={options.leave_out}"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TMPDIR": folder, "OMP_NUM_THREADS": "1"}
        try:
            result = subprocess.run(command, cwd=ROOT, env=environment, check=False,
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                    timeout=10 * options.timeout,
                                    preexec_fn=functools.partial(limit_itself, options.timeout))
        except subprocess.TimeoutExpired:
            return "it does not end"
    cases = re.findall(r"^TEST CASE: +(.*)", result.stdout.decode(errors="replace"), re.M)
    return "" if result.returncode == 0 else (cases or ["it ends before a test"])[-1]


def builds(build: pathlib.Path, target: str) -> bool:
    """The compiler's cache answers for unchanged sources and keeps no mutant."""
    return subprocess.run(["ninja", "-C", build, "-j1", target], cwd=ROOT, check=False,
                          env={**os.environ, "CCACHE_READONLY": "1"},
                          stdout=subprocess.DEVNULL).returncode == 0


def outcome_of(mutant: Mutant, target: str, options: argparse.Namespace) -> tuple[str, str]:
    """And the test case that killed it. The test file of the source's name goes first: it is the
    likeliest to fail."""
    file = ROOT / mutant.file
    source = file.read_text()
    try:
        file.write_text(mutant.source)
        if not builds(options.build, target):
            return DOES_NOT_COMPILE, ""
        for choice in ("source-file", "source-file-exclude"):
            if failure := failure_of(target, options, f"--{choice}=*/{file.stem}_*"):
                return "killed", failure
        return "survived", ""
    finally:
        file.write_text(source)


def sample(folder: str, options: argparse.Namespace) -> list[Mutant]:
    """One mutant a line, in random order."""
    by_line = {}
    for file in sorted((ROOT / folder).glob("*.cpp")):
        name = str(file.relative_to(ROOT))
        if file.name != "main.cpp" and name not in options.skip:
            for mutant in mutants_of(name):
                by_line.setdefault((name, mutant.line), []).append(mutant)
    dice = random.Random(options.seed)
    mutants = [dice.choice(mutants) for mutants in by_line.values()]
    dice.shuffle(mutants)
    return mutants


def run(folder: str, options: argparse.Namespace) -> None:
    """Tries mutants until `options.number` are killed or survive."""
    target = f"drystone_{folder}_tests"
    results = ROOT / "runs" / "mutants" / f"{folder}.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a+") as earlier:
        earlier.seek(0)
        known = {tuple(place): outcome for *place, outcome in map(json.loads, earlier)}
    if not builds(options.build, target) or (not known and failure_of(target, options)):
        sys.exit(f"{target} fails without any change")
    tried, survivors = 0, []
    for mutant in sample(folder, options):
        if tried == options.number:
            break
        outcome = known.get(mutant[:4])
        if outcome is None or (options.again and outcome == "survived"):
            outcome, failure = outcome_of(mutant, target, options)
            with results.open("a") as out:
                out.write(json.dumps([*mutant[:4], outcome]) + "\n")
            print(f"{outcome:>16}  {mutant.file}:{mutant.line}  {mutant.after}", flush=True)
            if failure:
                print(f"{'by':>16}  {failure}", flush=True)
        tried += outcome != DOES_NOT_COMPILE
        survivors += [mutant] if outcome == "survived" else []
    print(f"\n{folder}: {tried - len(survivors)} of {tried} mutants killed\n\n"
          "| survivor | before | after |\n|---|---|---|")
    for mutant in survivors:
        print(f"| {mutant.file}:{mutant.line} | `{mutant.before}` | `{mutant.after}` |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--build", type=pathlib.Path, default="build", help="default: build")
    parser.add_argument("--number", type=int, default=50, help="mutants a folder (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=int, default=60, help="processor seconds of a test run")
    parser.add_argument("--skip", nargs="*", default=[], metavar="FILE", help="sources left alone")
    parser.add_argument("--leave-out", default="", metavar="CASES", help="as --test-case-exclude")
    parser.add_argument("--again", action="store_true", help="try earlier survivors anew")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what puts the source back
    for folder in options.folders:
        if subprocess.check_output(["git", "-C", ROOT, "status", "--porcelain", "--", folder]):
            parser.error(f"{folder} has changes that are not committed")
        run(folder, options)


if __name__ == "__main__":
    main()
