"""Writes tests/text/added_token_cases.json: what transformers makes of model folders whose tokens are
named in tokenizer_config.json, special_tokens_map.json and added_tokens.json only.

Run: .venv/bin/python tests/oracles/added_token_cases.py   (needs transformers)
"""
import json
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers  # noqa: E402
from transformers import AutoTokenizer, BertTokenizer, GPT2Tokenizer  # noqa: E402

OUT = Path(__file__).parents[1] / "data" / "added_token_cases.json"
TEXTS = ["ab <x> cd", "ab<x>cd", "ab  </s>  cd<s>", "<X> a<x1>b <y>", "a<y>b<z><u>", "<pad>a <image>",
         "[MASK] a <mask> b"]


def listed(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "normalized": False,
            "single_word": False, "special": True} | flags


def letters():
    return {c: i for i, c in enumerate(["<unk>", "<s>", "</s>", *"abcdxyzu<>/[] ▁mskpXMASK1",
                                        "ab", "cd", "imge"])}


def whole(added=(), normalizer=None):
    """tokenizer.json of a small BPE: "ab" and "cd" are tokens."""
    tokenizer = Tokenizer(models.BPE(vocab=letters(), merges=[("a", "b"), ("c", "d")],
                                     unk_token="<unk>"))
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Fuse()
    root = json.loads(tokenizer.to_str())
    root["added_tokens"] = [{"id": 0, **listed("<unk>")}, {"id": 1, **listed("<s>")},
                            {"id": 2, **listed("</s>")}, *added]
    return root


SIZE = len(letters())
BASE = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>"}


def config(**more):
    return {"tokenizer_config.json": BASE | more}


def wrapped(content, **flags):
    return {"__type": "AddedToken", **listed(content, **flags)}


# name → (tokenizer.json's own added tokens, normalizer or None, other files)
FORMS = {
    "decoder lists one more": ([], None, config(added_tokens_decoder={str(SIZE): listed("<x>")})),
    "decoder lists several, with gaps, not in order": ([], None, config(added_tokens_decoder={
        str(SIZE + 40): listed("<y>"), str(SIZE + 9): listed("<x>"),
        str(SIZE + 100): listed("<z>", special=False)})),
    "decoder strips on both sides": ([], None, config(added_tokens_decoder={
        "2": listed("</s>", lstrip=True, rstrip=True)})),
    "decoder makes a token special": ([{"id": SIZE, **listed("<x>", special=False)}], None, config(
        added_tokens_decoder={str(SIZE): listed("<x>")})),
    "decoder cannot make a token plain": ([{"id": SIZE, **listed("<x>")}], None, config(
        added_tokens_decoder={str(SIZE): listed("<x>", special=False, rstrip=True)})),
    "decoder wants single words": ([], None, config(added_tokens_decoder={
        str(SIZE): listed("<x>"), str(SIZE + 1): listed("cd", single_word=True)})),
    "decoder normalizes": ([], normalizers.Lowercase(), config(added_tokens_decoder={
        str(SIZE): listed("<X>", normalized=True, special=False)})),
    "decoder leaves out the flags": ([], normalizers.Lowercase(), config(added_tokens_decoder={
        str(SIZE): {"content": "<X>"}, str(SIZE + 1): {"content": "<y>", "special": True}})),
    "decoder renames an id": ([{"id": SIZE, **listed("<z>")}], None, config(added_tokens_decoder={
        str(SIZE): listed("<x>")})),
    "decoder is empty, the map is not read": ([], None, config(added_tokens_decoder={}) | {
        "special_tokens_map.json": {"pad_token": "<pad>"}, "added_tokens.json": {"<x>": SIZE}}),
    "extra special tokens": ([], None, config(extra_special_tokens=["<x>", "<y>"])),
    "extra special tokens with flags": ([], None, config(extra_special_tokens=[
        wrapped("<x>", lstrip=True), "<y>"])),
    "extra special tokens by name": ([], None, config(extra_special_tokens={
        "image_token": "<image>"})),
    "additional special tokens": ([], None, config(additional_special_tokens=["<x>", "ab"])),
    "extra before additional": ([], None, config(additional_special_tokens=["<x>"],
                                                 extra_special_tokens=["<y>"])),
    "a role's token is in no list": ([], None, config(pad_token="<pad>")),
    "a role's token is a word of the model": ([], None, config(pad_token="ab")),
    "a role's token with flags": ([], None, config(mask_token=wrapped("<mask>", lstrip=True))),
    "a token that only a model has": ([], None, config(image_token="<image>")),
    "a role's token is listed as plain": (
        [{"id": SIZE, **listed("<x>", special=False)}], None, config(pad_token="<x>")),
    "pad is eos": ([], None, config(pad_token="</s>")),
    "added_tokens.json": ([], None, config() | {"added_tokens.json": {
        "<y>": SIZE + 3, "<x>": SIZE}}),
    "added_tokens.json with a special one": ([], normalizers.Lowercase(), config(
        pad_token="<x1>") | {"added_tokens.json": {"<x1>": SIZE, "<X>": SIZE + 1}}),
    "special_tokens_map.json wins": ([], None, config(pad_token="<y>") | {
        "special_tokens_map.json": {"pad_token": listed("<x>", rstrip=True)}}),
    "special_tokens_map.json has additional ones": ([], None, config() | {
        "special_tokens_map.json": {"additional_special_tokens": ["<x>", "<y>"]}}),
    "special_tokens_map.json alone": ([], None, {
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
        "special_tokens_map.json": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}}),
    "tokenizer.json's ids have a gap": ([{"id": 300, **listed("<x>")},
                                         {"id": 90, **listed("<y>")}], None, config()),
    "tokenizer.json's flags before added_tokens.json's": (
        [{"id": SIZE, **listed("<x>", lstrip=True)}], None, config() | {
            "added_tokens.json": {"<x>": SIZE, "<y>": SIZE + 1}}),
    "a role's token is plain in tokenizer.json, others are listed": (
        [{"id": SIZE, **listed("<x>", special=False)}], None, config(
            pad_token="<x>", added_tokens_decoder={str(SIZE + 1): listed("<y>")})),
    "tokenizer.json lists a token twice": ([{"id": SIZE, **listed("<x>")}, {
        "id": SIZE, **listed("<x>", lstrip=True)}], None, config()),
    "everything at once": ([{"id": SIZE, **listed("<z>")}], normalizers.Lowercase(), config(
        pad_token="<pad>", extra_special_tokens=["<y>", "<u>"], image_token="<image>",
        added_tokens_decoder={str(SIZE): listed("<z>"), str(SIZE + 1): listed("<x1>"),
                              "7": listed("ab", special=False, single_word=True)})),
}

for number in range(4):  # the same tokens from all places
    place = config(pad_token=["<x>", "<pad>"][number % 2], image_token="<y>")
    place["tokenizer_config.json"][["extra", "additional"][number // 2] + "_special_tokens"] = ["<z>"]
    FORMS[f"mixture {number}"] = ([{"id": 900, **listed("<z>", rstrip=True)}],
                                  normalizers.Lowercase(), place | {
        "special_tokens_map.json": {"mask_token": listed("<mask>", lstrip=True)},
        "added_tokens.json": {"<u>": 50, "<image>": 40}})

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "ab", "cd", "##b", "<", ">", "x",
         "/", "s", "y", "[", "]", "mask"]
BERT = {"vocab.txt": "\n".join(WORDS) + "\n"}
# name → (class, files)
SLOW = {
    "bert: a role's token is new": (BertTokenizer, BERT | {
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "mask_token": "<mask>"}}),
    "bert: decoder with gaps": (BertTokenizer, BERT | {
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": {
            "90": listed("<y>"), "70": listed("<x>", special=False, normalized=True)}}}),
    "bert: added_tokens.json": (BertTokenizer, BERT | {
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer"},
        "added_tokens.json": {"<y>": 30, "<x>": len(WORDS)}}),
}


def bytes_vocabulary():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, "ab", "cd", "<s>", "</s>", "<pad>", "<unk>", "<mask>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}


MERGES = {"vocab.json": bytes_vocabulary(), "merges.txt": "#version: 0.2\na b\nc d\n"}
SLOW |= {
    "gpt2: extra special tokens": (GPT2Tokenizer, MERGES | {
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer",
                                  "extra_special_tokens": ["<x>", "<y>"]}}),
    "gpt2: pad is new": (GPT2Tokenizer, MERGES | {
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "pad_token": "[PAD]"},
        "added_tokens.json": {"<x>": 900}}),
}


def write(folder, files):
    Path(folder, "config.json").write_text('{"model_type": "llama"}')
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        Path(folder, name).write_text(text)


def measured(name, files, load):
    with tempfile.TemporaryDirectory() as folder:
        write(folder, files)
        tokenizer = load(folder)
    cases = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        cases.append([ids, tokenizer.decode(ids, skip_special_tokens=True,
                                            clean_up_tokenization_spaces=False)])
    named = {key for content in files.values() if isinstance(content, dict) for key in content}
    roles = {role: tokenizer.convert_tokens_to_ids(token)
             for role, token in tokenizer.special_tokens_map.items()
             if role in named or not name.startswith("gpt2")}
    return {"name": name, "files": files, "size": max(tokenizer.get_vocab().values()) + 1,
            "roles": roles, "cases": cases}


def main():
    forms = []
    base = whole()
    for name, (added, normalizer, files) in FORMS.items():
        root = whole(added, normalizer)
        form = measured(name, {"tokenizer.json": root} | files, AutoTokenizer.from_pretrained)
        form["files"]["tokenizer.json"] = {key: value for key, value in root.items()
                                           if base[key] != value}
        forms.append(form)
    for name, (kind, files) in SLOW.items():
        forms.append(measured(name, files, kind.from_pretrained))
    OUT.write_text(json.dumps({"texts": TEXTS, "base": base, "forms": forms}, ensure_ascii=False,
                              separators=(",", ":")) + "\n")
    print(OUT, OUT.stat().st_size, "bytes", len(forms), "forms")


if __name__ == "__main__":
    main()
