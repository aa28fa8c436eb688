"""Shakespeare's roles as clients: one JSON line a speech, the last tenth of each role for testing.

    python3 examples/shakespeare/prepare.py ../shared/data/datasets/shakespeare/by_role.jsonl.gz

writes train.jsonl and test.jsonl under .data/shakespeare, with the 20 roles that speak most.
"""
import argparse
import gzip
import json
import pathlib


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("by_role", help='JSON lines {"role": …, "speeches": […]}, gzipped')
    parser.add_argument("--out", default=".data/shakespeare", type=pathlib.Path)
    parser.add_argument("--roles", default=20, type=int)
    arguments = parser.parse_args()
    with gzip.open(arguments.by_role, "rt", encoding="utf-8") as file:
        roles = [json.loads(line) for line in file]
    roles.sort(key=lambda role: -sum(map(len, role["speeches"])))
    arguments.out.mkdir(parents=True, exist_ok=True)
    with open(arguments.out / "train.jsonl", "w", encoding="utf-8") as train, \
            open(arguments.out / "test.jsonl", "w", encoding="utf-8") as test:
        for role in roles[:arguments.roles]:
            speeches = role["speeches"]
            held_out = max(1, len(speeches) // 10)
            for index, speech in enumerate(speeches):
                file = test if index >= len(speeches) - held_out else train
                line = {"role": role["role"], "text": speech}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
