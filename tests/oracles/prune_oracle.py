"""The other side of tests/programs/prune_test.cpp, which runs it.

prune_oracle.py make DIR   writes DIR/FAMILY/base, a tiny random checkpoint, and DIR/FAMILY/adapter, a
                           PEFT adapter on all its linear layers with random masks (pruning.json)
prune_oracle.py check DIR  loads DIR/FAMILY/merged with transformers: it is smaller, and its logits
                           are those of PEFT's model whose masked outputs hooks set to zero
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
SIZES = dict(vocab_size=40, hidden_size=24, num_hidden_layers=3, intermediate_size=20,
             max_position_embeddings=32)
GQA = dict(SIZES, num_attention_heads=8, num_key_value_heads=4, head_dim=6, pad_token_id=0,
           bos_token_id=1, eos_token_id=2)
FAMILIES = {
    "llama": (tf.LlamaConfig, GQA, "CAUSAL_LM"),
    "llama-bias": (tf.LlamaConfig, dict(GQA, attention_bias=True, mlp_bias=True), "CAUSAL_LM"),
    "llama-cls": (tf.LlamaConfig, GQA, "SEQ_CLS"),
    "mistral": (tf.MistralConfig, GQA, "CAUSAL_LM"),
    "qwen2": (tf.Qwen2Config, GQA, "CAUSAL_LM"),
    "qwen3": (tf.Qwen3Config, GQA, "CAUSAL_LM"),
    "gemma": (tf.GemmaConfig, GQA, "CAUSAL_LM"),
    "gemma2": (tf.Gemma2Config, GQA, "CAUSAL_LM"),
    "gemma3": (tf.Gemma3TextConfig, GQA, "CAUSAL_LM"),
    "bert": (tf.BertConfig, dict(SIZES, num_attention_heads=4), "SEQ_CLS"),
    "roberta": (tf.RobertaConfig, dict(SIZES, num_attention_heads=4), "SEQ_CLS"),
}
ROWS = torch.arange(5, 29).view(2, 12)
KEPT = {"heads": (4, 2), "channels": (20, 13)}  # groups, and how many stay


def auto_class(task):
    return tf.AutoModelForCausalLM if task == "CAUSAL_LM" else tf.AutoModelForSequenceClassification


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
    torch.manual_seed(6)
    config = kind(**options, num_labels=3) if task == "SEQ_CLS" else kind(**options)
    base = auto_class(task).from_config(config)
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
    base.save_pretrained(folder / "base")
    model = get_peft_model(base, LoraConfig(task_type=task, r=3, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder / "adapter")
    if task == "SEQ_CLS":
        (folder / "adapter" / "labels.json").write_text('["a", "b", "c"]')
    masks = {}
    for name, _ in blocks(family):
        groups, kept = KEPT[name.rsplit(".", 1)[1]]
        pruned = torch.randperm(groups)[kept:].sort().values.tolist()
        masks[name] = {"groups": groups, "pruned": pruned}
    masks[next(iter(masks))]["pruned"].pop()  # one layer keeps a head more
    (folder / "adapter" / "pruning.json").write_text(json.dumps(masks))


def masked(folder, family):
    base = auto_class(FAMILIES[family][2]).from_pretrained(folder / "base", num_labels=3)
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
    model, report = auto_class(task).from_pretrained(folder / "merged", output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"], (family, report)
    with torch.no_grad():
        own, other = model.eval()(ROWS).logits, expected(ROWS).logits
    size = other.abs().max()
    assert (own - other).abs().max() < 1e-5 * size, (family, (own - other).abs().max() / size)
    config = model.config
    assert config.intermediate_size == 13, family
    if is_encoder(family):
        assert config.num_attention_heads == 4
    else:
        assert (config.num_key_value_heads, config.num_attention_heads) == (3, 6)
    before = sum(p.numel() for p in expected.get_base_model().parameters())
    assert sum(p.numel() for p in model.parameters()) < before, family


for model_type in FAMILIES:
    {"make": make, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]) / model_type, model_type)
