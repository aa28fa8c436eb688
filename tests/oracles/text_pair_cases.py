"""Writes tests/data/text_pair_cases.json: pairs of texts as Hugging Face's `tokenizers` encodes them
with truncation to the longest first, for small tokenizers of each family's form made here.

Run from the repository root:  .venv/bin/python tests/oracles/text_pair_cases.py
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

LETTERS = "abcdefgh"


def word_piece():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]
    tokens += ["##" + letter for letter in LETTERS]
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(tokens[:5])
    return tokenizer


def byte_pair(specials):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    keep = [letter for letter in alphabet if letter in LETTERS + "ĠĊ"]
    vocabulary = {t: i for i, t in enumerate([*specials, *keep, "ab", "Ġa"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b"), ("Ġ", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    return tokenizer


def family(name):
    if name == "bert":
        return word_piece(), {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    if name == "roberta":
        tokenizer = byte_pair(["<s>", "</s>"])
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
        roles = {"cls_token": "<s>", "sep_token": "</s>", "bos_token": "<s>", "eos_token": "</s>"}
    elif name == "llama":
        tokenizer = byte_pair(["<b>", "<e>"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<b> $A", pair="<b> $A <b>:1 $B:1", special_tokens=[("<b>", 0)])
        roles = {"bos_token": "<b>", "eos_token": "<e>"}
    elif name == "t5":
        tokenizer = byte_pair(["<p>", "</s>"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
        roles = {"eos_token": "</s>", "pad_token": "<p>"}
    else:
        tokenizer = byte_pair(["<|end|>"])
        roles = {"bos_token": "<|end|>", "eos_token": "<|end|>"}
    return tokenizer, roles


PAIRS = [("a", "b"), ("ab cd", "ef gh a"), ("", "abc"), ("abc", ""), ("", ""),
         ("a b c d e f g h", "a"), ("h", "a b c d e f g h"), ("a b c d e", "f g h a b")]


def cases(tokenizer, has_types):
    for first, second in PAIRS:
        for limit in (0, 4, 5, 6, 7, 8, 9, 12):
            tokenizer.no_truncation()
            if limit:
                tokenizer.enable_truncation(limit, strategy="longest_first")
            encoding = tokenizer.encode(first, second)
            start = 0
            if has_types and 1 in encoding.type_ids:
                start = encoding.type_ids.index(1)
            yield [first, second, limit, encoding.ids, start]


def main():
    families = {}
    for name in ("bert", "roberta", "llama", "gpt2", "t5"):
        tokenizer, roles = family(name)
        families[name] = {"config": roles, "cases": list(cases(tokenizer, name == "bert"))}
        tokenizer.no_truncation()
        families[name]["tokenizer"] = json.loads(tokenizer.to_str())
    path = Path(__file__).parents[1] / "data" / "text_pair_cases.json"
    path.write_text(json.dumps(families, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
