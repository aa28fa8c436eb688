"""A folder like a checkout in which all is built and fetched, but models and texts train in a second."""
import array
import gzip
import json
import math
import random
import shutil
import struct

LETTERS = "abcdefghijklmnopqrstuvwxyz"

CONFIG = """name = "tiny"
seed = 7
[model]
path = ".data/news/model"
max_length = 8
[data]
train = ".data/news/train.jsonl"
test = "test.jsonl"
[federation]
rounds = 1
deadline = "1min"
grace = "1min"
[training]
max_steps = 2
batch_size = 4
[[clients]]
count = 2
rank = 2
[output]
dir = "run"
"""


def write_vocabulary(folder, letters):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")


CLASSIFIER = {"hidden_size": 96, "intermediate_size": 128, "max_position_embeddings": 128}
LANGUAGE_MODEL = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 32, "max_position_embeddings": 256}


def make_model(fixture, folder, widths, letters):
    """The fixture's model with random weights, wide and long enough for the examples' ranks and max_length."""
    folder.mkdir(parents=True)
    config = json.loads((fixture / "config.json").read_text())
    sizes = {config[key]: size for key, size in widths.items()}
    config |= widths
    raw = (fixture / "model.safetensors").read_bytes()
    header = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
    draw, body = random.Random(0), array.array("f")
    for name in sorted(set(header) - {"__metadata__"}):
        shape = [sizes.get(size, size) for size in header[name]["shape"]]
        mean = 1 if name.lower().endswith("norm.weight") else 0
        begin = 4 * len(body)
        body.extend(draw.gauss(mean, 0.1) for _ in range(math.prod(shape)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, 4 * len(body)]}
    (folder / "config.json").write_text(json.dumps(config))
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body.tobytes())
    write_vocabulary(folder, letters)


def text_of(index):
    return f"{LETTERS[index % 3]} {LETTERS[3 + index % 12]}"


def record(index):
    """A text with its class, its tale, and other names for the same."""
    return {"text": text_of(index), "sentence": text_of(index), "label": f"class-{index % 3}",
            "tale": f"tale {index % 20}"}


def question(index):
    return record(index) | {"question": text_of(index), "choices": ["a b", "c d", "e f"],
                            "answer": "ABC"[index % 3], "split": "test"}


def instruction(index):
    return {"instruction": text_of(index), "context": "", "response": text_of(index + 1),
            "category": f"kind {index % 8}"}


def speech(index):
    return f"ROLE {index % 20}:\n{text_of(index)}\n"


def write_lines(path, make, count):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(make(index)) + "\n" for index in range(count))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def make_checkout(folder, root, programs):
    shutil.copytree(root / "examples", folder / "examples")
    shutil.copy(root / "dev", folder / "dev")
    (folder / "tests/fuzz").mkdir(parents=True)
    shutil.copy(root / "tests/fuzz/CMakeLists.txt", folder / "tests/fuzz/CMakeLists.txt")
    (folder / "build").mkdir()
    (folder / "build/bin").symlink_to(programs)
    fixtures = root / "tests/models/fixtures"
    make_model(fixtures / "bert_tiny", folder / ".data/news/model", CLASSIFIER, LETTERS[:15])
    for name in (".data/tales/model", ".data/stories260K"):
        make_model(fixtures / "decoders/llama", folder / name, LANGUAGE_MODEL, LETTERS)
    for name in ("news", "tales"):
        write_lines(folder / f".data/{name}/train.jsonl", record, 60)
        write_lines(folder / f".data/{name}/test.jsonl", record, 9)
    write_lines(folder / "test.jsonl", record, 9)
    write_lines(folder / "sst2_dev.jsonl.gz", record, 9)
    write_lines(folder / "mmlu.jsonl.gz", question, 6)
    write_lines(folder / "gsm8k/test.jsonl.gz", question, 2)
    write_lines(folder / "databricks-dolly-15k.jsonl", instruction, 160)
    (folder / "plays.txt").write_text("\n".join(speech(index) for index in range(60)))
    for name in ("federation.toml", "fed.toml"):
        (folder / name).write_text(CONFIG)
