"""Shakespeare's roles as clients: one JSON line a speech, the last tenth of each role for testing.

    python3 examples/shakespeare/prepare.py plays.txt

takes a text in which speeches are parted by empty lines and begin with a line "ROLE:" (as in the file
known as tinyshakespeare), or JSON lines {"role": …, "speeches": […]}; both may be gzipped. Writes train.jsonl and
test.jsonl under .data/shakespeare, with the 20 roles that speak most.
"""
import argparse
import gzip
import json
import pathlib
import sys


def read(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        return file.read()


def roles_of(text):
    """role: its speeches, in the order of the text."""
    if text.lstrip().startswith("{"):
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        return {row["role"]: row["speeches"] for row in rows}
    roles = {}
    for block in text.split("\n\n"):
        role, _, speech = block.strip().partition(":\n")
        if speech:
            roles.setdefault(role, []).append(speech)
    return roles


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plays", help="the text, or JSON lines")
    parser.add_argument("--out", default=".data/shakespeare", type=pathlib.Path)
    parser.add_argument("--roles", default=20, type=int)
    arguments = parser.parse_args()
    roles = roles_of(read(arguments.plays))
    if len(roles) < arguments.roles:
        sys.exit(f"prepare: error: {arguments.plays}: {len(roles)} roles found, {arguments.roles} wanted; "
                 "speeches begin with a line \"ROLE:\" after an empty one")
    spoken = sorted(roles.items(), key=lambda role: -sum(map(len, role[1])))
    arguments.out.mkdir(parents=True, exist_ok=True)
    with open(arguments.out / "train.jsonl", "w", encoding="utf-8") as train, \
            open(arguments.out / "test.jsonl", "w", encoding="utf-8") as test:
        for role, speeches in spoken[:arguments.roles]:
            held_out = max(1, len(speeches) // 10)
            for index, speech in enumerate(speeches):
                file = test if index >= len(speeches) - held_out else train
                line = {"role": role, "text": speech}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
