"""Tiny random models of transformers' families with PEFT adapters on all their linear layers: what
merge_oracle.py and prune_oracle.py have in common."""
import pathlib
import sys
import warnings

warnings.filterwarnings("ignore")
import torch  # noqa: E402
import transformers as tf  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402

tf.logging.set_verbosity_error()
ROWS = torch.arange(5, 29).view(2, 12)
DECODERS = {
    "llama": (tf.LlamaConfig, "CAUSAL_LM"),
    "llama-cls": (tf.LlamaConfig, "SEQ_CLS"),
    "mistral": (tf.MistralConfig, "CAUSAL_LM"),
    "qwen2": (tf.Qwen2Config, "CAUSAL_LM"),
    "qwen3": (tf.Qwen3Config, "CAUSAL_LM"),
    "gemma": (tf.GemmaConfig, "CAUSAL_LM"),
    "gemma2": (tf.Gemma2Config, "CAUSAL_LM"),
    "gemma3": (tf.Gemma3TextConfig, "CAUSAL_LM"),
}


def decoders(**sizes):
    """Families with grouped key-value heads: name → (configuration class, its options, task)."""
    options = dict(sizes, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    return {name: (kind, options, task) for name, (kind, task) in DECODERS.items()}


def auto_class(task):
    return tf.AutoModelForCausalLM if task == "CAUSAL_LM" else tf.AutoModelForSequenceClassification


def random_model(kind, options, task):
    torch.manual_seed(6)
    config = kind(**options, num_labels=3) if task == "SEQ_CLS" else kind(**options)
    return auto_class(task).from_config(config)


def randomise(model, part, deviation):
    """Parameters whose names have `part`; PEFT's fresh B, and biases, are zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part(name):
                parameter.normal_(0, deviation)


def save_adapter(folder, base, task, **lora):
    model = get_peft_model(base, LoraConfig(task_type=task, r=3, target_modules="all-linear", **lora))
    randomise(model, lambda name: "lora_B" in name, 0.2)
    model.save_pretrained(folder / "adapter")
    if task == "SEQ_CLS":
        (folder / "adapter" / "labels.json").write_text('["a", "b", "c"]')


def load_whole(folder, task):
    """A checkpoint that lacks nothing."""
    model, report = auto_class(task).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"], (folder, report)
    return model.eval()


def check_close(family, own, other):
    size = other.abs().max()
    assert (own - other).abs().max() < 1e-5 * size, (family, (own - other).abs().max() / size)


def main(families, **commands):
    for name in families:
        commands[sys.argv[1]](pathlib.Path(sys.argv[2]) / name, name)
