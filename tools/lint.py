#!/usr/bin/env python3
"""Runs clang-tidy on the C++ files that changed since origin/main (without it: in the last ten
commits), on all (--all), or on those named.

A changed header is checked through the source beside it. clang cannot read g++'s precompiled
header, so the compile commands are copied without it.
"""

import argparse
import concurrent.futures
import json
import pathlib
import random
import re
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
TIDY = ROOT / ".venv" / "bin" / "clang-tidy"


def for_clang(command: str) -> str:
    """GCC's command without its precompiled header; Clang knows not all of its warnings."""
    words, kept = iter(shlex.split(command)), []
    for word in words:
        if word in ("-Winvalid-pch", "-fpch-preprocess"):
            continue
        if word == "-include":
            next(words)
            continue
        kept.append(word)
    return shlex.join([*kept, "-Wno-unknown-warning-option"])


def by_source(entry: dict) -> list[dict]:
    """Of several sources that are compiled at a time, an entry each."""
    file = pathlib.Path(entry["file"])
    if file.parent.name != "Unity":
        return [entry]
    sources = [str(ROOT / source) for source in
               re.findall(r'^#include "(.+\.cpp)"$', file.read_text(), re.MULTILINE)]
    return [entry | {"file": source, "command": entry["command"].replace(entry["file"], source)}
            for source in sources]


def compile_commands() -> dict[pathlib.Path, dict]:
    """By source file; written for clang-tidy into build/lint as well."""
    entries = [each for entry in json.loads((BUILD / "compile_commands.json").read_text())
               for each in by_source(entry)]
    for entry in entries:
        entry["command"] = for_clang(entry["command"])
        if pathlib.Path(entry["file"]).parent.name == "wire":  # as CMake has it where Clang compiles
            entry["command"] += f" -include {ROOT / 'wire' / 'capnp_clang.h'}"
    folder = BUILD / "lint"
    folder.mkdir(exist_ok=True)
    (folder / "compile_commands.json").write_text(json.dumps(entries))
    return {pathlib.Path(entry["file"]): entry for entry in entries}


def git(*arguments: str) -> list[str]:
    result = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True,
                            check=False)
    return result.stdout.split() if result.returncode == 0 else []


def changed_files() -> list[pathlib.Path]:
    base = git("merge-base", "HEAD", "origin/main") or git("rev-list", "--max-count=11", "HEAD")[-1:]
    if not base:
        return []
    names = git("diff", "--name-only", base[0]) + git("ls-files", "--others", "--exclude-standard")
    return [ROOT / name for name in names]


def sources(files: list[pathlib.Path], known: dict[pathlib.Path, dict]) -> list[pathlib.Path]:
    chosen = set()
    for file in files:
        for source in (file, file.with_suffix(".cpp")):
            if file.suffix in (".cpp", ".h") and source in known:
                chosen.add(source)
    return sorted(chosen)


def tidy(source: pathlib.Path) -> tuple[pathlib.Path, int, str, float]:
    start = time.monotonic()
    result = subprocess.run([TIDY, "-p", BUILD / "lint", "--quiet", source], capture_output=True,
                            text=True, check=False)
    output = result.stdout if result.returncode == 0 else result.stdout + result.stderr
    return source, result.returncode, output.strip(), time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every source file of the repository")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"),
                        help="begin no file after so many, in an order that changes with the commit")
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    options = parser.parse_args()

    known = {file: entry for file, entry in compile_commands().items()
             if file.is_relative_to(ROOT) and not file.is_relative_to(BUILD)}
    files = [file.resolve() for file in options.files] or changed_files()
    chosen = sorted(known) if options.all else sources(files, known)
    if not chosen:
        print("lint: no C++ file changed; --all checks every file")
        return 0

    if options.seconds < float("inf"):
        random.Random("".join(git("rev-parse", "HEAD"))).shuffle(chosen)
    end = time.monotonic() + options.seconds
    failed = unchecked = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(lambda source: tidy(source) if time.monotonic() < end else None, chosen):
            if result is None:
                unchecked += 1
                continue
            source, code, output, seconds = result
            print(f"lint: {source.relative_to(ROOT)} {seconds:.0f} s {'FAILED' if code else 'ok'}",
                  flush=True)
            if output:
                print(output)
            failed += code != 0
    print(f"lint: {len(chosen) - unchecked} files, {failed} with findings, {unchecked} left out for time")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
