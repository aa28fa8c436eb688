"""The other side of tests/programs/prune_test.cpp, which runs it.

prune_oracle.py make DIR   writes DIR/FAMILY/base, a tiny random checkpoint, and DIR/FAMILY/adapter, a
                           PEFT adapter on all its linear layers with random masks (pruning.json)
prune_oracle.py check DIR  loads DIR/FAMILY/merged with transformers: it is smaller, and its logits
                           are those of PEFT's model whose masked outputs hooks set to zero
"""
import json

import tiny_families as tiny
import torch
import transformers as tf
from peft import PeftModel

SIZES = dict(vocab_size=40, hidden_size=24, num_hidden_layers=3, intermediate_size=20,
             max_position_embeddings=32)
DECODERS = tiny.decoders(**SIZES, num_attention_heads=8, num_key_value_heads=4, head_dim=6)
LLAMA = DECODERS["llama"]
FAMILIES = DECODERS | {
    "llama-bias": (tf.LlamaConfig, dict(LLAMA[1], attention_bias=True, mlp_bias=True), "CAUSAL_LM"),
    "bert": (tf.BertConfig, dict(SIZES, num_attention_heads=4), "SEQ_CLS"),
    "roberta": (tf.RobertaConfig, dict(SIZES, num_attention_heads=4), "SEQ_CLS"),
}
KEPT = {"heads": (4, 2), "channels": (20, 13)}  # groups, and how many stay


def is_encoder(family):
    return family in ("bert", "roberta")


def blocks(family):
    """Block → the modules whose outputs it masks."""
    for layer in range(SIZES["num_hidden_layers"]):
        if is_encoder(family):
            base = f"{family}.encoder.layer.{layer}."
            yield base + "heads", [base + f"attention.self.{p}" for p in ("query", "key", "value")]
            yield base + "channels", [base + "intermediate.dense"]
        else:
            base = f"model.layers.{layer}."
            yield base + "heads", [base + f"self_attn.{p}_proj" for p in "qkv"]
            yield base + "channels", [base + f"mlp.{p}_proj" for p in ("gate", "up")]


def make(folder, family):
    kind, options, task = FAMILIES[family]
    base = tiny.random_model(kind, options, task)
    tiny.randomise(base, lambda name: name.endswith("bias"), 0.3)
    base.save_pretrained(folder / "base")
    tiny.save_adapter(folder, base, task)
    masks = {}
    for name, _ in blocks(family):
        groups, kept = KEPT[name.rsplit(".", 1)[1]]
        pruned = torch.randperm(groups)[kept:].sort().values.tolist()
        masks[name] = {"groups": groups, "pruned": pruned}
    masks[next(iter(masks))]["pruned"].pop()  # one layer keeps a head more
    (folder / "adapter" / "pruning.json").write_text(json.dumps(masks))


def masked(folder, family):
    base = tiny.auto_class(FAMILIES[family][2]).from_pretrained(folder / "base", num_labels=3)
    model = PeftModel.from_pretrained(base, folder / "adapter").eval()
    masks = json.loads((folder / "adapter" / "pruning.json").read_text())
    modules = dict(model.get_base_model().named_modules())
    for name, rows in blocks(family):
        keep = torch.ones(masks[name]["groups"])
        keep[masks[name]["pruned"]] = 0
        for row in rows:
            def hook(module, args, output, keep=keep):
                return output * keep.repeat_interleave(output.shape[-1] // len(keep))
            modules[row].register_forward_hook(hook)
    return model


def check(folder, family):
    task = FAMILIES[family][2]
    expected = masked(folder, family)
    model = tiny.load_whole(folder / "merged", task)
    with torch.no_grad():
        tiny.check_close(family, model(tiny.ROWS).logits, expected(tiny.ROWS).logits)
    config = model.config
    assert config.intermediate_size == 13, family
    if is_encoder(family):
        assert config.num_attention_heads == 4
    else:
        assert (config.num_key_value_heads, config.num_attention_heads) == (3, 6)
    before = sum(p.numel() for p in expected.get_base_model().parameters())
    assert sum(p.numel() for p in model.parameters()) < before, family


tiny.main(FAMILIES, make=make, check=check)
