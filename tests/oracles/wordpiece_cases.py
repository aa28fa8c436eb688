"""Writes tests/text/wordpiece_cases.json: hard strings with the ids and decoded texts that Hugging
Face's `tokenizers` gives them, for small tokenizers made here.

Run from the repository root:  .venv/bin/python tests/oracles/wordpiece_cases.py
"""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# Code points at which Unicode versions, categories or case mappings are easily got wrong.
HARD = [
    0x0, 0x9, 0xA, 0xB, 0xD, 0x1C, 0x7F, 0x85, 0xA0, 0xAD, 0x130, 0x131, 0x1C5, 0x301, 0x323, 0x345,
    0x3A3, 0x3C2, 0x3F4, 0x61D, 0x890, 0x898, 0x8D4, 0x8E2, 0x9FD, 0xF71, 0xF72, 0x1133, 0x1680,
    0x166D, 0x1734, 0x180E, 0x1885, 0x1ABF, 0x1C89, 0x1DF6, 0x1E9E, 0x1EC7, 0x1F88, 0x200B, 0x200D,
    0x2028, 0x202F, 0x20DD, 0x2126, 0x212B, 0x24B6, 0x2E43, 0x2E55, 0x3000, 0x302E, 0x3042, 0x304C,
    0x4E2D, 0xA7CB, 0xA7CE, 0xA7DC, 0xA9BD, 0xAB70, 0xAC01, 0xE000, 0xF900, 0xFB1D, 0xFE0F, 0xFEFF,
    0xFF21, 0xFFFD, 0xFFFE, 0x10400, 0x10D24, 0x10D50, 0x110CD, 0x111C9, 0x1144B, 0x11938, 0x16EA0,
    0x1D15E, 0x1D165, 0x1E900, 0x1F600, 0x20000, 0x2CEB0, 0x2F800, 0xE0001, 0x10FFFF,
]
WORDS = ["un", "aff", "able", "want", "ing", "ed", "s", "Hello", "Ünder", "mp3", "don't", "a.b"]
MARKS = [chr(c) for c in (0x300, 0x323, 0x302E, 0x302F, 0x1D165, 0x1D16D, 0x8D3, 0xF71, 0x16FF0)]


def vocabulary():
    letters = {chr(c) for c in range(33, 127)} | {chr(c) for c in HARD if c > 32}
    for form in (normalizers.NFD(), normalizers.Lowercase(), normalizers.BertNormalizer()):
        letters |= set("".join(form.normalize_str(c) for c in list(letters)))
    letters |= set(MARKS) | set("".join(WORDS))
    pieces = sorted(c for c in letters if not c.isspace())
    words = WORDS + [normalizers.BertNormalizer().normalize_str(w) for w in WORDS]
    tokens = SPECIAL + pieces + ["##" + p for p in pieces]
    tokens += words + ["##" + w for w in words]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def build(**normalizer):
    tokenizer = Tokenizer(WordPiece(vocabulary(), unk_token="[UNK]", max_input_chars_per_word=40))
    tokenizer.normalizer = normalizers.BertNormalizer(**normalizer)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def cases(seed):
    rng = random.Random(seed)
    texts = ["", " ", "a" * 40, "a" * 41, "é" * 40, "é" * 41, "中" * 50, "[SEP][sep][ SEP]", "a[MASK]b",
             "I do not know . It 's n't ' fine ' , is it ?"]
    texts += ["a" + chr(c) + "b " + chr(c) + "S" for c in HARD]
    for _ in range(60):
        parts = []
        for _ in range(rng.randrange(1, 5)):
            word = rng.choice(WORDS + SPECIAL)
            at = rng.randrange(len(word) + 1)
            middle = rng.choice(MARKS + [chr(c) for c in HARD]) + rng.choice(MARKS + [""])
            parts.append(word[:at] + middle + word[at:])
        texts.append(rng.choice(["", " "]).join(parts))
    return texts


def group(tokenizer, texts):
    rows = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        rows.append([text, ids, tokenizer.decode(ids)])
    description = json.loads(tokenizer.to_str())
    del description["model"]["vocab"]  # the same for all: kept once
    return {"tokenizer": description, "cases": rows}


def main():
    stripped = build()
    cased = build(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    bare = build(clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=True)
    added = build()
    added.add_tokens([AddedToken("Straße", normalized=True), AddedToken("Éa", normalized=True,
                                                                         single_word=True)])
    added.add_tokens([AddedToken("<l>", lstrip=True, normalized=False),
                      AddedToken("<r>", rstrip=True, normalized=False),
                      AddedToken("<w>", single_word=True, normalized=False)])
    added_texts = ["die STRASSE, straße STRAßE", "eA éab bÉa ea. e\u0301A", "a  <l>  b <r> \n c<r>",
                   "<w> a<w> <w>1 (<w>)", "<l> <l>\u00a0<r> <l>", "<r><l><w>"]
    groups = {"uncased": group(stripped, cases(1)), "cased": group(cased, cases(2)[:60]),
              "bare": group(bare, cases(3)[:60]), "added": group(added, added_texts)}
    fixture = {"vocabulary": vocabulary(), "groups": groups}
    out = Path(__file__).parents[1] / "data" / "wordpiece_cases.json"
    out.write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
    print(out, out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
