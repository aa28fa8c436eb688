"""The other side of tests/programs/merge_test.cpp, which runs it.

merge_oracle.py make DIR   writes DIR/FAMILY/base, a tiny random checkpoint in shards, and
                           DIR/FAMILY/adapter, a PEFT adapter of mixed ranks on all its linear layers
merge_oracle.py check DIR  loads DIR/FAMILY/merged with transformers: its logits are PEFT's
"""
import json
import pathlib
import sys
import warnings

warnings.filterwarnings("ignore")
import torch  # noqa: E402
import transformers as tf  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402

tf.logging.set_verbosity_error()
SIZES = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
             intermediate_size=24, max_position_embeddings=32)
GQA = dict(SIZES, num_key_value_heads=2, head_dim=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
FAMILIES = {
    "bert": (tf.BertConfig, SIZES, "SEQ_CLS"),
    "roberta": (tf.RobertaConfig, SIZES, "SEQ_CLS"),
    "deberta-v2": (tf.DebertaV2Config, dict(SIZES, relative_attention=True, position_buckets=4,
                                            share_att_key=True, pos_att_type="p2c|c2p",
                                            norm_rel_ebd="layer_norm"), "SEQ_CLS"),
    "llama": (tf.LlamaConfig, GQA, "CAUSAL_LM"),
    "llama-tied": (tf.LlamaConfig, dict(GQA, tie_word_embeddings=True), "CAUSAL_LM"),
    "llama-cls": (tf.LlamaConfig, GQA, "SEQ_CLS"),
    "mistral": (tf.MistralConfig, GQA, "CAUSAL_LM"),
    "qwen2": (tf.Qwen2Config, GQA, "CAUSAL_LM"),
    "qwen3": (tf.Qwen3Config, GQA, "CAUSAL_LM"),
    "gemma": (tf.GemmaConfig, GQA, "CAUSAL_LM"),
    "gemma2": (tf.Gemma2Config, GQA, "CAUSAL_LM"),
    "gemma3": (tf.Gemma3TextConfig, GQA, "CAUSAL_LM"),
    "phi3": (tf.Phi3Config, GQA, "CAUSAL_LM"),
    "gpt2": (tf.GPT2Config, dict(vocab_size=40, n_embd=16, n_layer=2, n_head=4, n_positions=32),
             "CAUSAL_LM"),
}
ROWS = torch.arange(5, 29).view(2, 12)


def auto_class(task):
    return tf.AutoModelForCausalLM if task == "CAUSAL_LM" else tf.AutoModelForSequenceClassification


def make(folder, family):
    kind, options, task = FAMILIES[family]
    torch.manual_seed(6)
    config = kind(**options, num_labels=3) if task == "SEQ_CLS" else kind(**options)
    base = auto_class(task).from_config(config)
    # sequence classifiers start from the bare model or the language model, as on the Hub
    stored = base.base_model if task == "SEQ_CLS" else base
    if family == "llama-cls":
        stored = tf.LlamaForCausalLM(config)
    stored.save_pretrained(folder / "base", max_shard_size="8KB")
    (folder / "base" / "tokenizer_config.json").write_text("{}")
    base = auto_class(task).from_pretrained(folder / "base", num_labels=3)
    saved = ["pooler.dense"] if family == "deberta-v2" else None
    model = get_peft_model(base, LoraConfig(task_type=task, r=3, lora_alpha=6, use_rslora=True,
                                            target_modules="all-linear", modules_to_save=saved))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder / "adapter")
    if task == "SEQ_CLS":
        (folder / "adapter" / "labels.json").write_text('["a", "b", "c"]')


def check(folder, family):
    task = FAMILIES[family][2]
    base = auto_class(task).from_pretrained(folder / "base", num_labels=3)
    expected = PeftModel.from_pretrained(base, folder / "adapter").eval()
    merged, report = auto_class(task).from_pretrained(folder / "merged", output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"], (family, report)
    if task == "SEQ_CLS":
        assert merged.config.id2label == {0: "a", 1: "b", 2: "c"}
        assert type(merged).__name__ in merged.config.architectures
    with torch.no_grad():
        own, other = merged.eval()(ROWS).logits, expected(ROWS).logits
        plain = expected.get_base_model()
        with expected.disable_adapter():
            changed = (plain(ROWS).logits - other).abs().max()
    size = other.abs().max()
    assert changed > 1e-2 * size, family
    assert (own - other).abs().max() < 1e-5 * size, (family, (own - other).abs().max() / size)
    index = folder / "merged" / "model.safetensors.index.json"
    assert index.exists() and json.loads(index.read_text())["metadata"]["total_size"] > 0
    assert (folder / "merged" / "tokenizer_config.json").exists()


for model_type in FAMILIES:
    {"make": make, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]) / model_type, model_type)
