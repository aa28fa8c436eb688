"""The other side of tests/programs/merge_test.cpp, which runs it.

merge_oracle.py make DIR   writes DIR/FAMILY/base, a tiny random checkpoint in shards, and
                           DIR/FAMILY/adapter, a PEFT adapter of mixed ranks on all its linear layers
merge_oracle.py check DIR  loads DIR/FAMILY/merged with transformers: its logits are PEFT's
"""
import json

import tiny_families as tiny
import torch
import transformers as tf
from peft import PeftModel

SIZES = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
             intermediate_size=24, max_position_embeddings=32)
DECODERS = tiny.decoders(**SIZES, num_key_value_heads=2, head_dim=4)
LLAMA = DECODERS["llama"]
FAMILIES = DECODERS | {
    "bert": (tf.BertConfig, SIZES, "SEQ_CLS"),
    "roberta": (tf.RobertaConfig, SIZES, "SEQ_CLS"),
    "deberta-v2": (tf.DebertaV2Config, dict(SIZES, relative_attention=True, position_buckets=4,
                                            share_att_key=True, pos_att_type="p2c|c2p",
                                            norm_rel_ebd="layer_norm"), "SEQ_CLS"),
    "llama-tied": (tf.LlamaConfig, dict(LLAMA[1], tie_word_embeddings=True), "CAUSAL_LM"),
    "phi3": (tf.Phi3Config, LLAMA[1], "CAUSAL_LM"),
    "gpt2": (tf.GPT2Config, dict(vocab_size=40, n_embd=16, n_layer=2, n_head=4, n_positions=32),
             "CAUSAL_LM"),
}


def make(folder, family):
    kind, options, task = FAMILIES[family]
    base = tiny.random_model(kind, options, task)
    # sequence classifiers start from the bare model or the language model, as on the Hub
    stored = base.base_model if task == "SEQ_CLS" else base
    if family == "llama-cls":
        stored = tf.LlamaForCausalLM(base.config)
    stored.save_pretrained(folder / "base", max_shard_size="8KB")
    (folder / "base" / "tokenizer_config.json").write_text("{}")
    base = tiny.auto_class(task).from_pretrained(folder / "base", num_labels=3)
    saved = ["pooler.dense"] if family == "deberta-v2" else None
    tiny.save_adapter(folder, base, task, lora_alpha=6, use_rslora=True, modules_to_save=saved)


def check(folder, family):
    task = FAMILIES[family][2]
    base = tiny.auto_class(task).from_pretrained(folder / "base", num_labels=3)
    expected = PeftModel.from_pretrained(base, folder / "adapter").eval()
    merged = tiny.load_whole(folder / "merged", task)
    if task == "SEQ_CLS":
        assert merged.config.id2label == {0: "a", 1: "b", 2: "c"}
        assert type(merged).__name__ in merged.config.architectures
    with torch.no_grad():
        own, other = merged(tiny.ROWS).logits, expected(tiny.ROWS).logits
        plain = expected.get_base_model()
        with expected.disable_adapter():
            changed = (plain(tiny.ROWS).logits - other).abs().max()
    assert changed > 1e-2 * other.abs().max(), family
    tiny.check_close(family, own, other)
    index = folder / "merged" / "model.safetensors.index.json"
    assert index.exists() and json.loads(index.read_text())["metadata"]["total_size"] > 0
    assert (folder / "merged" / "tokenizer_config.json").exists()


tiny.main(FAMILIES, make=make, check=check)
