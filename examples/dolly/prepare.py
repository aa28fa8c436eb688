"""Dolly's instructions as ten clients, each with two or three kinds of them.

    python3 examples/dolly/prepare.py databricks-dolly-15k.jsonl

takes the file of that name (JSON lines with instruction, context, response and category; may be gzipped), keeps ten
rows of each category for testing, deals the rest out so that every category lies at three or four of the ten clients, and
writes client_0.jsonl to client_9.jsonl and test.jsonl under .data/dolly.
"""
import argparse
import gzip
import json
import pathlib
import random
import sys

CLIENTS = 10
HELD_OUT = 10  # of a category
FIELDS = {"instruction", "context", "response", "category"}


def read(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    missing = FIELDS - set(rows[0] if rows else {})
    if missing:
        sys.exit(f"prepare: error: {path}: rows have no {', '.join(sorted(missing))}")
    return rows


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows")
    parser.add_argument("--out", default=".data/dolly", type=pathlib.Path)
    arguments = parser.parse_args()
    categories = {}
    for row in read(arguments.rows):
        categories.setdefault(row["category"], []).append(row)
    shuffle = random.Random(0).shuffle
    clients, test = [[] for _ in range(CLIENTS)], []
    for index, (_, rows) in enumerate(sorted(categories.items())):
        shuffle(rows)
        test += rows[:HELD_OUT]
        homes = [(index * 3 + offset) % CLIENTS for offset in range(3 + index % 2)]
        for position, row in enumerate(rows[HELD_OUT:]):
            clients[homes[position % len(homes)]].append(row)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for index, rows in enumerate(clients):
        write(arguments.out / f"client_{index}.jsonl", rows)
    write(arguments.out / "test.jsonl", test)


if __name__ == "__main__":
    main()
