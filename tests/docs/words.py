"""Whether what a command names exists, where it is not run: preset, target, test, script, options."""
import json
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def check(command):
    """None, or the first thing that it names and that does not exist."""
    for part in command.split(" | "):
        problem = check_part(shlex.split(part))
        if problem:
            return problem
    return None


def check_part(words):
    first = words[0]
    if first == "./dev":
        usage = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
        return None if re.search(rf"^  {words[1]} ", usage, re.M) else f"no ./dev {words[1]}"
    if first in ("cmake", "ctest"):
        return presets(words) or targets(after(words, "--target"))
    if first.startswith("build/bench/"):
        return targets([first.split("/")[-1]])
    if first.startswith("build/bin/"):
        return test_program(words)
    scripts = [word for word in words if word.endswith((".py", ".sh"))]
    return script(scripts[0], words) if scripts else None


def after(words, option):
    return [words[index + 1] for index, word in enumerate(words[:-1]) if word == option]


def presets(words):
    given = json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]
    wrong = set(after(words, "--preset")) - {preset["name"] for preset in given}
    return f"no preset {', '.join(wrong)}" if wrong else None


def targets(names):
    made = (ROOT / "bench/CMakeLists.txt").read_text()
    wrong = [name for name in names if not re.search(rf"\({name}\b", made)]
    return f"bench makes no {', '.join(wrong)}" if wrong else None


def test_program(words):
    folder = words[0].removeprefix("build/bin/drystone_").removesuffix("_tests")
    files = [word.split("*/")[1] for word in words if word.startswith("--source-file=*/")]
    wrong = [name for name in files if not (ROOT / "tests" / folder / name).exists()]
    return f"tests/{folder} has no {', '.join(wrong)}" if wrong else None


def script(name, words):
    """Its --help, where this Python has what it imports, knows the options."""
    if not (ROOT / name).exists():
        return f"{name} does not exist"
    if "argparse" not in (ROOT / name).read_text(encoding="utf-8"):
        return None
    done = subprocess.run([sys.executable, "-B", ROOT / name, "--help"], capture_output=True, text=True,
                          check=False, cwd=ROOT)
    if "ModuleNotFoundError" in done.stderr:
        return None
    known = set(re.findall(r"--[a-z][a-z-]*", done.stdout))
    wrong = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
    if done.returncode != 0:
        return f"--help ends with {done.returncode}: {done.stderr.strip()[-200:]}"
    return f"{name} has no {', '.join(wrong)}" if wrong else None
