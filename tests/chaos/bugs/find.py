#!/usr/bin/env python3
"""Plants the bugs of table.py in a worktree of its own and says which seed finds each.

    git worktree add ../bugs && ln -s … && cmake --preset ci …     # as for any build
    tests/chaos/bugs/find.py ../bugs [--build build] [--seeds 1..200000] [--only WORD] [--jobs 2]

All go into one build: each is a condition that the environment's DRYSTONE_PLANTED_BUG turns on.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import time

from table import BUGS

DECLARATION = 'extern "C" int drystone_planted_bug();\n'
DEFINITION = """
extern "C" int drystone_planted_bug() {
  static const char* const text = std::getenv("DRYSTONE_PLANTED_BUG");
  static const int number = text == nullptr ? 0 : std::atoi(text);
  return number;
}
"""


def planted(tree, texts, number):
    """The files with this bug beside those that `texts` holds; None: it does not fit beside them."""
    result = {}
    for file, right, wrong in BUGS[number - 1][1]:
        text = result.get(file) or texts.get(file) or (tree / file).read_text()
        if text.count(right) != 1:
            return None
        condition = f"(drystone_planted_bug() == {number})"
        result[file] = text.replace(right, wrong.replace("BUG", condition))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", type=pathlib.Path, help="worktree that is edited and built")
    parser.add_argument("--build", default="build", help="its build folder")
    parser.add_argument("--seeds", default="1..200000")
    parser.add_argument("--only", default="", help="bugs with this word")
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--seconds", type=int, default=3600, help="for one bug, at most")
    given = parser.parse_args()
    remaining = {number for number, (name, _) in enumerate(BUGS, start=1) if given.only in name}
    while remaining:
        remaining = round_of_bugs(given, remaining)


def round_of_bugs(given, numbers):
    """Builds as many as fit beside each other. @return  those that did not"""
    tree = given.tree.resolve()
    subprocess.run(["git", "-C", tree, "checkout", "-q", "--", "."], check=True)
    left = set()
    texts = {}
    for number in sorted(numbers):
        files = planted(tree, texts, number)
        if files is None:
            left.add(number)
        else:
            texts.update(files)
    if left == numbers:
        sys.exit(f"{BUGS[min(left) - 1][0]}: its text is not in the sources, or more than once")
    for file, text in texts.items():
        (tree / file).write_text(DECLARATION + text)
    main_file = tree / "tests/chaos/main.cpp"
    main_file.write_text("#include <cstdlib>\n" + main_file.read_text() + DEFINITION)
    build = tree / given.build
    subprocess.run(["nice", "-n", "8", "ninja", "-C", build, "-j2", "drystone-chaos"], check=True,
                   stdout=subprocess.DEVNULL)
    for number in sorted(numbers - left):
        find(build / "bin/drystone-chaos", number, given)
    subprocess.run(["git", "-C", tree, "checkout", "-q", "--", "."], check=True)
    return left


def find(program, number, given):
    start = time.monotonic()
    environment = {**os.environ, "DRYSTONE_PLANTED_BUG": str(number), "OMP_WAIT_POLICY": "passive"}
    try:
        ran = subprocess.run([program, "--seeds", given.seeds, "--jobs", given.jobs], text=True,
                             capture_output=True, env=environment, timeout=given.seconds)
        output = ran.stdout
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"").decode()
    found = [re.match(r"seed (\d+): (.*?): drystone-chaos", line) for line in output.splitlines()]
    seeds = sorted((int(match[1]), match[2]) for match in found if match)
    seed, violation = seeds[0] if seeds else ("not found", "")
    seconds = time.monotonic() - start
    print(f"| {number} | {BUGS[number - 1][0]} | {seed} | {violation[:100]} | {seconds:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
