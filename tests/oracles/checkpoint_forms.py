"""The other side of tests/programs/checkpoint_forms_test.cpp, which runs it: checkpoints and adapters
in the forms that people have them.

checkpoint_forms.py make DIR   writes DIR/NAME/{model,adapter,data.jsonl,case.json} for every form.
    case.json says what `drystone evaluate` is asked and what it must answer: transformers' and PEFT's
    mean NLL in float32, or a part of the sentence that refuses. "merge": `drystone merge` must make
    DIR/NAME/merged of it with the same NLL, in 16-bit forms to their digits.
checkpoint_forms.py check DIR  loads every DIR/NAME/merged with transformers: whole, and of that NLL.
checkpoint_forms.py table DIR  prints every form and what it must give.
"""
import json
import pathlib
import shutil
import sys
import warnings

warnings.filterwarnings("ignore")
import torch  # noqa: E402
import transformers as tf  # noqa: E402
from peft import LoraConfig, LoHaConfig, PeftModel, get_peft_model  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

tf.logging.set_verbosity_error()
tf.utils.logging.disable_progress_bar()
torch.set_num_threads(1)

VOCAB = 40
IDS = [[5, 9, 13, 7, 22, 31, 6], [11, 12, 30, 8], [4, 39, 21, 17, 10]]
SIZES = dict(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
             intermediate_size=24, max_position_embeddings=32, initializer_range=0.3)
DECODER = dict(SIZES, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
CONFIGS = {
    "llama": (tf.LlamaConfig, DECODER),
    "mistral": (tf.MistralConfig, DECODER),
    "qwen2": (tf.Qwen2Config, DECODER),
    "qwen3": (tf.Qwen3Config, dict(DECODER, head_dim=4)),
    "phi3": (tf.Phi3Config, DECODER),
    "gemma": (tf.GemmaConfig, dict(DECODER, head_dim=4)),
    "gemma2": (tf.Gemma2Config, dict(DECODER, head_dim=4, query_pre_attn_scalar=4)),
    "gemma3": (tf.Gemma3TextConfig, dict(DECODER, head_dim=4, query_pre_attn_scalar=4)),
    "gpt2": (tf.GPT2Config, dict(vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=4, n_positions=32,
                                 initializer_range=0.3, bos_token_id=1, eos_token_id=2,
                                 pad_token_id=0)),
    "bert": (tf.BertConfig, SIZES),
    "roberta": (tf.RobertaConfig, dict(SIZES, max_position_embeddings=34)),
    "xlm-roberta": (tf.XLMRobertaConfig, dict(SIZES, max_position_embeddings=34)),
    "deberta": (tf.DebertaV2Config, dict(SIZES, relative_attention=True, position_buckets=4,
                                         share_att_key=True, pos_att_type="p2c|c2p",
                                         norm_rel_ebd="layer_norm", position_biased_input=False)),
}
LM, CLS = tf.AutoModelForCausalLM, tf.AutoModelForSequenceClassification
LABELS = ["up", "down", "aside"]  # not in the order of their bytes
FORMS = {}


def form(function):
    FORMS[function.__name__.replace("_", "-")] = function
    return function


# --- making checkpoints

def config_of(family, **more):
    kind, options = CONFIGS[family]
    return kind(**{**options, **more})


def fresh(family, auto=LM, **more):
    torch.manual_seed(7)
    model = auto.from_config(config_of(family, **more))
    with torch.no_grad():  # biases and norms are more than their defaults
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def labelled(family, **more):
    return fresh(family, CLS, id2label=dict(enumerate(LABELS)),
                 label2id={name: i for i, name in enumerate(LABELS)}, **more)


def save(folder, model):
    """FOLDER/model; returns it."""
    model.save_pretrained(folder / "model")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [f"w{i}" for i in range(VOCAB - 5)]
    (folder / "model/vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "model/tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return folder / "model"


def edit_config(model, **changes):
    """Sets keys; a value of ... removes one."""
    config = json.loads((model / "config.json").read_text())
    for key, value in changes.items():
        config.pop(key, None)
        if value is not ...:
            config[key] = value
    (model / "config.json").write_text(json.dumps(config, indent=2))


def edit_weights(model, change):
    """`change` takes the tensors by name and returns others."""
    file = model / "model.safetensors"
    tensors = change(load_file(file))
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file,
              {"format": "pt"})


def rename(model, *pairs):
    def change(tensors):
        for old, new in pairs:
            tensors = {name.replace(old, new, 1) if old in name else name: tensor
                       for name, tensor in tensors.items()}
        return tensors
    edit_weights(model, change)


def without_prefix(model, prefix):
    edit_weights(model, lambda tensors: {name.removeprefix(prefix): tensor
                                         for name, tensor in tensors.items()})


def add(model, **tensors):
    """Names with __ for a dot."""
    edit_weights(model, lambda own: own | {name.replace("__", "."): tensor
                                           for name, tensor in tensors.items()})


# --- what they compute

def nll_of(model):
    total, count = 0.0, 0
    with torch.no_grad():
        for ids in IDS:
            logits = model(torch.tensor([ids])).logits[0, :-1].double()
            total += torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]),
                                                       reduction="sum").item()
            count += len(ids) - 1
    return total / count


def class_nll_of(model, labels):
    ids = [model.config.label2id.get(label, label) for label in labels]
    with torch.no_grad():
        rows = [model(torch.tensor([row])).logits[0].double() for row in IDS]
    return torch.nn.functional.cross_entropy(torch.stack(rows), torch.tensor(ids)).item()


def load(folder, auto, **more):
    model = auto.from_pretrained(folder / "model", dtype=torch.float32, **more)
    if (folder / "adapter").exists():
        model = PeftModel.from_pretrained(model, folder / "adapter", autocast_adapter_dtype=True)
    return model.eval()


def write_data(folder, labels=None):
    rows = [{"input_ids": ids, "labels": ids} if labels is None
            else {"input_ids": ids, "label": labels[i]} for i, ids in enumerate(IDS)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def causal(folder, loss=None, merge=None, tolerance=1e-5, arguments=()):
    """A language model's case: its loss, transformers' own if none is given."""
    write_data(folder)
    value = nll_of(load(folder, LM)) if loss is None else loss
    case = {"task": "causal-lm", "loss": value, "tolerance": tolerance,
            "merge": (folder / "adapter").exists() if merge is None else merge,
            "arguments": ["--loss-on", "all", *arguments]}
    (folder / "case.json").write_text(json.dumps(case))


def classes(folder, labels=("aside", "up", "down"), merge=None, **more):
    write_data(folder, labels)
    value = class_nll_of(load(folder, CLS, **more), labels)
    case = {"task": "classification", "loss": value, "tolerance": 1e-5, "labels": list(labels),
            "merge": (folder / "adapter").exists() if merge is None else merge, "arguments": []}
    (folder / "case.json").write_text(json.dumps(case))


def refused(folder, sentence, task="causal-lm", labels=("aside", "up", "down"), merge=False):
    """merge: `drystone merge` refuses with it too."""
    write_data(folder, None if task == "causal-lm" else labels)
    case = {"task": task, "refusal": sentence, "merge": merge, "arguments": []}
    (folder / "case.json").write_text(json.dumps(case))


# --- adapters

def adapt(folder, _, task="CAUSAL_LM", targets=("q_proj", "v_proj"), prepare=None, **lora):
    """FOLDER/adapter, trained (drawn) on a copy of FOLDER/model."""
    auto = LM if task == "CAUSAL_LM" else CLS
    more = dict(num_labels=len(LABELS)) if auto is CLS and lora.pop("new_head", False) else {}
    model = auto.from_pretrained(folder / "model", **more)
    if prepare:
        prepare(model)
    targets = targets if isinstance(targets, str) else list(targets)
    model = get_peft_model(model, LoraConfig(**(dict(task_type=task, r=3, lora_alpha=5,
                                                     target_modules=targets) | lora)))
    torch.manual_seed(11)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder / "adapter")
    return folder / "adapter"


def edit_adapter(adapter, **changes):
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps(config))


def edit_adapter_weights(adapter, change):
    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


def tie(**more):
    return fresh("llama", tie_word_embeddings=True, **more)


# --- forms of language models

@form
def plain(folder):
    save(folder, fresh("llama"))
    causal(folder)


@form
def bare_names_with_head(folder):
    without_prefix(save(folder, fresh("llama")), "model.")
    adapt_elsewhere(folder, "llama", targets=["q_proj", "lm_head"])
    causal(folder, loss=merged_loss(folder, fresh("llama")))


def adapt_elsewhere(folder, family, **lora):
    """An adapter for the same model under its full names."""
    whole = folder / "whole"
    whole.mkdir()
    save(whole, fresh(family))
    adapt(whole, None, **lora)
    shutil.move(whole / "adapter", folder / "adapter")


def merged_loss(folder, base):
    return nll_of(PeftModel.from_pretrained(base, folder / "adapter").eval())


@form
def bare_model_tied(folder):
    base = tie()
    model = save(folder, base)
    without_prefix(model, "model.")
    causal(folder, loss=nll_of(base))


@form
def tied_with_copy(folder):
    model = save(folder, tie())
    edit_weights(model, lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"]})
    causal(folder)


@form
def tied_with_half_copy(folder):
    """An embedding that 16 bits hold exactly, and the head in 16 bits."""
    base = tie()
    with torch.no_grad():
        base.model.embed_tokens.weight.copy_(base.model.embed_tokens.weight.half().float())
    model = save(folder, base)
    edit_weights(model, lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"].half()})
    causal(folder, loss=nll_of(base))


@form
def tied_flag_beside_another_head(folder):
    model = save(folder, tie())
    torch.manual_seed(3)
    add(model, lm_head__weight=torch.randn(VOCAB, 16) * 0.3)
    causal(folder)


@form
def tied_flag_another_head_and_adapter(folder):
    model = save(folder, tie())
    torch.manual_seed(3)
    add(model, lm_head__weight=torch.randn(VOCAB, 16) * 0.3)
    adapt(folder, model)
    causal(folder)


@form
def flag_absent_with_head(folder):
    model = save(folder, fresh("llama"))
    edit_config(model, tie_word_embeddings=...)
    causal(folder)


@form
def flag_absent_without_head(folder):
    model = save(folder, tie())
    edit_config(model, tie_word_embeddings=...)
    refused(folder, "missing are lm_head.weight")


def silent_tie(family):
    def make(folder):
        model = save(folder, fresh(family))
        edit_config(model, tie_word_embeddings=...)
        causal(folder)
    make.__name__ = f"tie_absent_{family}"
    return make


for name in ("gemma", "gemma2", "gemma3", "gpt2"):
    form(silent_tie(name))


def few_keys(family, *keys):
    def make(folder):
        model = save(folder, fresh(family, tie_word_embeddings=False))
        edit_config(model, **{key: ... for key in keys})
        causal(folder)
    make.__name__ = f"few_keys_{family}"
    return make


SILENT = ("attention_bias", "attention_dropout", "bos_token_id", "eos_token_id", "hidden_act",
          "initializer_range", "layer_types", "max_window_layers", "mlp_bias", "pad_token_id",
          "pretraining_tp", "rms_norm_eps", "rope_parameters", "sliding_window", "use_cache",
          "use_sliding_window", "dtype", "architectures", "transformers_version")
for name in ("llama", "mistral", "qwen2", "phi3", "gemma2"):
    form(few_keys(name, *(key for key in SILENT if (name, key) != ("phi3", "pad_token_id"))))


@form
def null_keys(folder):
    model = save(folder, fresh("llama", num_key_value_heads=4))
    edit_config(model, head_dim=None, num_key_value_heads=None, pad_token_id=None,
                rope_scaling=None, architectures=None)
    causal(folder)


@form
def junk_keys(folder):
    model = save(folder, fresh("llama"))
    edit_config(model, _name_or_path="/nowhere/at/all", eos_token_id=[2, 3], pad_token_id=-1,
                auto_map={"AutoModelForCausalLM": "modeling_x.X"}, torch_dtype="bfloat16",
                dtype="float16", _attn_implementation_autoset=True, unsloth_fixed=True)
    causal(folder)


@form
def gpt2_without_prefix(folder):
    base = fresh("gpt2")
    model = save(folder, base)
    without_prefix(model, "transformer.")
    add_buffers(model, "h.")
    causal(folder, loss=nll_of(base))


def add_buffers(model, layers):
    mask = torch.tril(torch.ones(32, 32)).view(1, 1, 32, 32)
    edit_weights(model, lambda t: t | {f"{layers}{i}.attn.bias": mask for i in range(2)}
                 | {f"{layers}{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)})


@form
def gpt2_with_buffers_and_head(folder):
    model = save(folder, fresh("gpt2"))
    add_buffers(model, "transformer.h.")
    edit_weights(model, lambda t: t | {"lm_head.weight": t["transformer.wte.weight"]})
    adapt(folder, model, targets=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)
    causal(folder)


@form
def gpt2_untied(folder):
    save(folder, fresh("gpt2", tie_word_embeddings=False))
    causal(folder)


@form
def rotary_buffers_left(folder):
    model = save(folder, fresh("llama"))
    edit_weights(model, lambda t: t | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq":
                                       torch.ones(2) for i in range(2)})
    adapt(folder, model)
    causal(folder)


@form
def foreign_tensors(folder):
    model = save(folder, fresh("llama"))
    add(model, vision_tower__patch__weight=torch.ones(3, 3), model__extra=torch.ones(2))
    causal(folder)


def to_shards(model, place="", surplus=False):
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"{place}model-{number + 1:05}-of-00002.safetensors"
        (model / file).parent.mkdir(exist_ok=True)
        save_file({name: tensors[name] for name in part}, model / file, {"format": "pt"})
        index |= {name: file for name in part}
    if surplus:
        index["model.layers.0.self_attn.rotary_emb.inv_freq"] = file
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": index}))


@form
def shards_in_sub_folder(folder):
    to_shards(save(folder, fresh("llama")), "weights/")
    causal(folder)


@form
def index_names_more(folder):
    to_shards(save(folder, fresh("llama")), surplus=True)
    causal(folder)


@form
def index_missing(folder):
    model = save(folder, fresh("llama"))
    to_shards(model)
    (model / "model.safetensors.index.json").unlink()
    adapt_elsewhere(folder, "llama")
    refused(folder, "but not model.safetensors.index.json", merge=True)


@form
def shard_missing(folder):
    model = save(folder, fresh("llama"))
    to_shards(model)
    (model / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "model-00002-of-00002.safetensors")


@form
def shard_outside(folder):
    model = save(folder, fresh("llama"))
    shutil.move(model / "model.safetensors", folder / "model.safetensors")
    index = {"weight_map": {"lm_head.weight": "../model.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "is not a file of this folder")


@form
def single_file_beside_old_index(folder):
    model = save(folder, fresh("llama"))
    index = {"weight_map": {"lm_head.weight": "gone.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    causal(folder)


@form
def variant_file_only(folder):
    model = save(folder, fresh("llama"))
    shutil.move(model / "model.safetensors", model / "model.fp16.safetensors")
    refused(folder, "holds model.fp16.safetensors but no model.safetensors")


@form
def adapter_in_place_of_model(folder):
    model = save(folder, fresh("llama"))
    (model / "model.safetensors").unlink()
    shutil.copy(adapter_of(folder, "llama") / "adapter_model.safetensors", model)
    refused(folder, "is an adapter, not a model")


def adapter_of(folder, family):
    whole = folder / "whole"
    whole.mkdir()
    return adapt(whole, save(whole, fresh(family)))


def in_type(dtype, name):
    def make(folder):
        adapt(folder, save(folder, fresh("llama").to(dtype)))
        causal(folder, tolerance=1e-5 if dtype == torch.float64 else 1e-2)
    make.__name__ = f"weights_in_{name}"
    return make


for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16),
                    ("float64", torch.float64)):
    form(in_type(dtype, name))


@form
def mixed_types(folder):
    model = save(folder, fresh("llama"))
    edit_weights(model, lambda t: {name: tensor.bfloat16() if "proj" in name else
                                   tensor.half() if "embed" in name else tensor
                                   for name, tensor in t.items()})
    adapt(folder, model)
    causal(folder, tolerance=1e-2)


@form
def no_metadata(folder):
    base = fresh("llama")
    model = save(folder, base)
    save_file(load_file(model / "model.safetensors"), model / "model.safetensors")
    causal(folder, loss=nll_of(base))


@form
def fewer_rows_than_described(folder):
    model = save(folder, fresh("llama"))
    edit_config(model, vocab_size=VOCAB + 8)
    refused(folder, f"model.embed_tokens.weight is [{VOCAB}, 16] instead of [{VOCAB + 8}, 16]")


@form
def integer_weights(folder):
    model = save(folder, fresh("llama"))
    edit_weights(model, lambda t: {name: (tensor * 99).to(torch.int8) if "q_proj" in name else tensor
                                   for name, tensor in t.items()})
    refused(folder, "stored quantised by a quantiser (model.layers.0.self_attn.q_proj.weight is I8)")


def quantised(name, config, sentence, change):
    def make(folder):
        model = save(folder, fresh("llama"))
        edit_config(model, quantization_config=config)
        edit_weights(model, change)
        adapt_elsewhere(folder, "llama")
        refused(folder, sentence, merge=True)
    make.__name__ = f"stored_by_{name}"
    return make


def packed(suffix, dtype=torch.int32):
    return lambda t: {name.replace(".weight", suffix) if "proj" in name else name:
                      tensor.to(dtype) if "proj" in name else tensor for name, tensor in t.items()}


for maker in (
        quantised("gptq", {"quant_method": "gptq", "bits": 4}, 'quantised by "gptq"',
                  packed(".qweight")),
        quantised("awq", {"quant_method": "awq", "bits": 4}, 'quantised by "awq"', packed(".qweight")),
        quantised("fp8", {"quant_method": "fp8"}, "quantised by FP8",
                  packed(".weight", torch.float8_e4m3fn)),
        quantised("compressed_tensors", {"quant_method": "compressed-tensors"},
                  'quantised by "compressed-tensors"', packed(".weight_packed")),
        quantised("bnb_int8", {"quant_method": "bitsandbytes", "load_in_8bit": True},
                  "quantised by bitsandbytes in 8 bits", packed(".weight", torch.int8)),
        quantised("bnb_nf4", {"quant_method": "bitsandbytes", "load_in_4bit": True},
                  "quantised by bitsandbytes in 4 bits", packed(".weight", torch.uint8))):
    form(maker)


@form
def quantization_config_left(folder):
    base = fresh("llama")
    model = save(folder, base)
    adapt(folder, model)
    edit_config(model, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    causal(folder, loss=merged_loss(folder, base))


@form
def names_of_a_wrapper(folder):
    rename(save(folder, fresh("llama")), ("", "module."))
    refused(folder, "missing are model.embed_tokens.weight")


@form
def vision_language_config(folder):
    edit_config(save(folder, fresh("gemma3")), model_type="gemma3")
    refused(folder, '"gemma3" is not supported')


@form
def pickle_only(folder):
    model = save(folder, fresh("llama"))
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    adapt_elsewhere(folder, "llama")
    refused(folder, "a pickle can run code", merge=True)


@form
def longer_than_positions(folder):
    save(folder, fresh("gpt2"))
    write_data(folder)
    case = {"task": "causal-lm", "refusal": "--max-length: 33 tokens, but the model has 32 positions",
            "merge": False, "arguments": ["--max-length", "33"]}
    (folder / "case.json").write_text(json.dumps(case))


@form
def id_beyond_rows(folder):
    save(folder, fresh("llama", vocab_size=30))
    refused(folder, ".jsonl:1: token \"w26\" has id 31, but the model has 30 rows")


# --- forms of classifiers

@form
def labels_in_another_order(folder):
    save(folder, labelled("bert"))
    classes(folder)


@form
def labels_as_numbers(folder):
    save(folder, labelled("bert"))
    classes(folder, labels=(2, 0, 1))


@form
def fewer_labels_than_classes(folder):
    save(folder, labelled("bert"))
    classes(folder, labels=("aside", "up", "up"))


@form
def one_label_only(folder):
    save(folder, labelled("bert"))
    classes(folder, labels=("aside", "aside", "aside"))


@form
def labels_without_names(folder):
    save(folder, fresh("bert", CLS, num_labels=3))
    classes(folder, labels=(2, 0, 2))


@form
def two_labels_unsaid(folder):
    edit_config(save(folder, fresh("bert", CLS)), id2label=..., label2id=...)
    classes(folder, labels=(1, 0, 1))


@form
def num_labels_of_old(folder):
    model = save(folder, fresh("bert", CLS, num_labels=3))
    edit_config(model, id2label=..., label2id=..., num_labels=3)
    classes(folder, labels=(2, 0, 1))


@form
def id2label_from_high_to_low(folder):
    model = save(folder, labelled("bert"))
    edit_config(model, id2label={"2": "aside", "1": "down", "0": "up"})
    classes(folder)


@form
def another_label(folder):
    save(folder, labelled("bert"))
    refused(folder, 'the class "left" is not one of the model\'s', "classification",
            labels=("left", "up", "down"))


@form
def names_for_nameless(folder):
    save(folder, fresh("bert", CLS, num_labels=3))
    refused(folder, "by --labels", "classification")


def head_of(family, **more):
    def make(folder):
        save(folder, labelled(family, **more))
        classes(folder)
    make.__name__ = f"classifier_{family.replace('-', '_')}"
    return make


for name in ("roberta", "xlm-roberta", "deberta", "llama", "gpt2", "qwen3", "gemma2", "phi3"):
    form(head_of(name))


@form
def old_norm_names(folder):
    model = save(folder, labelled("bert"))
    rename(model, ("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    adapt(folder, model, "SEQ_CLS", targets=["query", "dense"])
    classes(folder)


@form
def leftovers_of_pretraining(folder):
    model = save(folder, labelled("bert"))
    edit_weights(model, lambda t: t | {
        "cls.predictions.bias": torch.ones(VOCAB), "cls.seq_relationship.weight": torch.ones(2, 16),
        "cls.predictions.decoder.weight": torch.ones(VOCAB, 16),
        "bert.embeddings.position_ids": torch.arange(32)[None]})
    adapt(folder, model, "SEQ_CLS", targets=["query"])
    classes(folder)


@form
def leftovers_in_roberta(folder):
    model = save(folder, labelled("roberta"))
    edit_weights(model, lambda t: t | {
        "lm_head.bias": torch.ones(VOCAB), "lm_head.dense.weight": torch.ones(16, 16),
        "lm_head.decoder.weight": torch.ones(VOCAB, 16),
        "roberta.pooler.dense.weight": torch.ones(16, 16)})
    adapt(folder, model, "SEQ_CLS", targets=["query", "value"])
    classes(folder)


@form
def leftovers_in_deberta(folder):
    model = save(folder, labelled("deberta"))
    edit_weights(model, lambda t: t | {
        "lm_predictions.lm_head.bias": torch.ones(VOCAB),
        "mask_predictions.classifier.weight": torch.ones(1, 16),
        "deberta.embeddings.position_embeddings.weight": torch.ones(32, 16)})
    adapt(folder, model, "SEQ_CLS", targets=["query_proj"])
    classes(folder)


@form
def base_without_head(folder):
    save(folder, fresh("bert", tf.AutoModel))
    refused(folder, "has no trained classification head", "classification")


@form
def language_model_as_classifier(folder):
    save(folder, fresh("llama"))
    refused(folder, "has no trained classification head", "classification")


@form
def head_without_pooler(folder):
    model = save(folder, labelled("bert"))
    edit_weights(model, lambda t: {name: tensor for name, tensor in t.items() if "pooler" not in name})
    refused(folder, "has no trained classification head (bert.pooler.dense.weight)",
            "classification")


@form
def head_of_token_classifier(folder):
    torch.manual_seed(7)
    config = config_of("llama", id2label=dict(enumerate(LABELS)),
                       label2id={name: i for i, name in enumerate(LABELS)})
    save(folder, tf.AutoModelForTokenClassification.from_config(config))
    refused(folder, "LlamaForTokenClassification: its head is not a sequence classifier's",
            "classification")


@form
def several_labels_a_text(folder):
    save(folder, labelled("bert", problem_type="multi_label_classification"))
    refused(folder, '"multi_label_classification" is not supported', "classification")


@form
def regression_head(folder):
    save(folder, fresh("bert", CLS, num_labels=1))
    refused(folder, "its head has one output; use --task regression", "classification")


@form
def names_fewer_than_head(folder):
    save(folder, labelled("bert"))
    write_data(folder, ("up", "up", "down"))
    case = {"task": "classification", "refusal": "classifier.weight has 3 labels, not 2",
            "merge": False, "arguments": ["--labels", "up,down"]}
    (folder / "case.json").write_text(json.dumps(case))


@form
def roberta_without_padding_id(folder):
    edit_config(save(folder, labelled("roberta")), pad_token_id=None)
    refused(folder, "pad_token_id", "classification")


# --- forms of adapters

def saved_or_adapted(name, tied, **lora):
    def make(folder):
        adapt(folder, save(folder, fresh("llama", tie_word_embeddings=tied)), **lora)
        causal(folder)
    make.__name__ = f"{name}_{'tied' if tied else 'untied'}"
    return make


for is_tied in (True, False):
    for name, lora in {
            "saves_both": dict(modules_to_save=["embed_tokens", "lm_head"]),
            "saves_embeddings": dict(modules_to_save=["embed_tokens"]),
            "saves_head": dict(modules_to_save=["lm_head"]),
            "adapts_head": dict(targets=["q_proj", "lm_head"]),
            "adapts_embeddings": dict(targets=["q_proj", "embed_tokens"]),
            "adapts_both": dict(targets=["embed_tokens", "lm_head"]),
            "adapts_head_saves_embeddings": dict(targets=["q_proj", "lm_head"],
                                                 modules_to_save=["embed_tokens"])}.items():
        form(saved_or_adapted(name, is_tied, **lora))


@form
def adapts_gpt2_embeddings(folder):
    adapt(folder, save(folder, fresh("gpt2")), targets=["c_attn", "wte", "wpe"], fan_in_fan_out=True)
    causal(folder)


@form
def saves_norms(folder):
    adapt(folder, save(folder, fresh("gemma")), modules_to_save=["norm"])
    causal(folder)


def resized(tied, keeps_tokenizer):
    def make(folder):
        save(folder, fresh("llama", tie_word_embeddings=tied))
        grow = lambda model: model.resize_token_embeddings(VOCAB + 3)  # noqa: E731
        adapter = adapt(folder, None, prepare=grow,
                        **({} if tied else dict(modules_to_save=["embed_tokens", "lm_head"])))
        if tied:  # as save_embedding_layers="auto" does where the base has other rows
            model = LM.from_pretrained(folder / "model")
            grow(model)
            rows = model.get_input_embeddings().weight.detach()
            edit_adapter_weights(adapter, lambda t: t | {
                "base_model.model.lm_head.weight": rows.clone(),
                "base_model.model.model.embed_tokens.weight": rows.clone()})
        model = LM.from_pretrained(folder / "model")
        grow(model)
        loss = nll_of(PeftModel.from_pretrained(model, adapter).eval())
        if keeps_tokenizer:
            for file in ("vocab.txt", "tokenizer_config.json"):
                shutil.copy(folder / "model" / file, adapter)
        causal(folder, loss=loss)
    make.__name__ = f"added_tokens_{'tied' if tied else 'untied'}"
    return make


form(resized(True, True))
form(resized(False, False))


@form
def added_tokens_in_embeddings_alone(folder):
    save(folder, fresh("llama"))
    adapter = adapt(folder, None, modules_to_save=["embed_tokens"])
    edit_adapter_weights(adapter, lambda t: {
        name: torch.cat([tensor, tensor[:2]]) if "embed" in name else tensor
        for name, tensor in t.items()})
    refused(folder, f"the embeddings have {VOCAB + 2} rows with it and lm_head {VOCAB}", merge=True)


def lora_of(name, **lora):
    def make(folder):
        adapt(folder, save(folder, fresh("llama")), **lora)
        causal(folder)
    make.__name__ = f"adapter_{name}"
    return make


for name, lora in {
        "all_linear": dict(targets="all-linear"),
        "regular_expression": dict(targets=r".*layers\.1\.mlp\.(up|down)_proj"),
        "rslora": dict(use_rslora=True),
        "patterns": dict(rank_pattern={"v_proj": 5}, alpha_pattern={r"layers\.1\.self_attn\.q_proj": 9}),
        "patterns_anchored": dict(rank_pattern={"^model.layers.0.self_attn.q_proj": 4},
                                  alpha_pattern={"q_proj": 1, "layers.0.self_attn.q_proj": 7}),
        "some_layers": dict(layers_to_transform=[1]),
        "fan_in_fan_out_in_vain": dict(fan_in_fan_out=True),
        "ties_in_vain": dict(ensure_weight_tying=True),
        "orthogonal_start": dict(init_lora_weights="orthogonal", r=4)}.items():
    form(lora_of(name, **lora))


def of_family(family, targets):
    def make(folder):
        adapt(folder, save(folder, fresh(family)), targets=targets)
        causal(folder)
    make.__name__ = f"adapter_on_{family}"
    return make


for name, targets in {"mistral": ["o_proj"], "qwen2": ["k_proj"], "qwen3": ["q_proj"],
                      "phi3": ["qkv_proj", "gate_up_proj"], "gemma2": ["down_proj"],
                      "gemma3": ["v_proj"]}.items():
    form(of_family(name, targets))


@form
def adapter_in_16_bits(folder):
    adapter = adapt(folder, save(folder, fresh("llama")))
    edit_adapter_weights(adapter, lambda t: {name: tensor.bfloat16() for name, tensor in t.items()})
    edit_adapter(adapter, base_model_name_or_path="someone/something", revision="x", task_type=None)
    causal(folder)


@form
def adapter_of_old_release(folder):
    """Keys that today's PEFT writes are not there, and those of then are."""
    adapter = adapt(folder, save(folder, fresh("llama")))
    loss = nll_of(load(folder, LM))
    keep = ("peft_type", "task_type", "r", "lora_alpha", "target_modules", "bias", "lora_dropout")
    config = json.loads((adapter / "adapter_config.json").read_text())
    config = {key: config[key] for key in keep} | {"merge_weights": False, "enable_lora": None}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    causal(folder, loss=loss)


def unsupported(name, sentence, change, **lora):
    def make(folder):
        adapter = adapt(folder, save(folder, fresh("llama")), **lora)
        change(adapter)
        refused(folder, sentence, merge=True)
    make.__name__ = f"adapter_with_{name}"
    return make


def nothing(_):
    pass


for maker in (
        unsupported("biases", 'bias = "lora_only" is not supported', nothing, bias="lora_only"),
        unsupported("dora", "use_dora = true is not supported", nothing, use_dora=True),
        unsupported("tokens", "trainable_token_indices", nothing, trainable_token_indices=[3]),
        unsupported("pissa_start", 'init_lora_weights = "pissa" changes the base', nothing,
                    init_lora_weights="pissa"),
        unsupported("lora_bias", "lora_bias = true is not supported", nothing, lora_bias=True),
        unsupported("tied_ends", "ensure_weight_tying is not supported",
                    lambda a: edit_adapter(a, ensure_weight_tying=True),
                    targets=["q_proj", "lm_head"]),
        unsupported("state_names", "as state_dict() gives it",
                    lambda a: edit_adapter_weights(a, lambda t: {
                        name.replace("lora_A.", "lora_A.default."): x for name, x in t.items()})),
        unsupported("no_prefix", "does not begin with base_model.model.",
                    lambda a: edit_adapter_weights(a, lambda t: {
                        name.removeprefix("base_model.model."): x for name, x in t.items()})),
        unsupported("half_a_pair", "the weights lack",
                    lambda a: edit_adapter_weights(a, lambda t: {
                        name: x for name, x in t.items() if "1.self_attn.v_proj.lora_B" not in name})),
        unsupported("another_rank", "has rank 3, not 8 as configured",
                    lambda a: edit_adapter(a, r=8)),
        unsupported("foreign_module", "model.layers.7.self_attn.q_proj",
                    lambda a: edit_adapter_weights(a, lambda t: {
                        name.replace("layers.1", "layers.7"): x for name, x in t.items()})),
        unsupported("pickle_only", "a pickle can run code",
                    lambda a: (a / "adapter_model.safetensors").rename(a / "adapter_model.bin")),
        unsupported("no_weights", "adapter_model.safetensors: is missing",
                    lambda a: (a / "adapter_model.safetensors").unlink())):
    form(maker)


@form
def adapter_of_another_kind(folder):
    save(folder, fresh("llama"))
    model = get_peft_model(LM.from_pretrained(folder / "model"),
                           LoHaConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(folder / "adapter")
    refused(folder, 'peft_type "LOHA" is not supported', merge=True)


@form
def adapter_of_wider_model(folder):
    save(folder, fresh("llama"))
    adapt_elsewhere_wider(folder)
    refused(folder, "model.layers.0.self_attn.q_proj", merge=True)


def adapt_elsewhere_wider(folder):
    whole = folder / "whole"
    whole.mkdir()
    save(whole, fresh("llama", hidden_size=32))
    shutil.move(adapt(whole, None), folder / "adapter")


def head_adapter(family, targets, new_head, saved=None):
    def make(folder):
        base = fresh(family, tf.AutoModel) if new_head else labelled(family)
        save(folder, base)
        if new_head:
            edit_config(folder / "model", id2label=dict(enumerate(LABELS)),
                        label2id={name: i for i, name in enumerate(LABELS)})
        adapt(folder, None, "SEQ_CLS", targets=targets, modules_to_save=saved)
        classes(folder)
    make.__name__ = f"{'new' if new_head else 'own'}_head_adapter_{family}"
    return make


for name, targets, saved in (("bert", ["query", "value"], None), ("roberta", ["query", "dense"], None),
                             ("deberta", ["query_proj"], ["pooler", "classifier"]),
                             ("llama", ["q_proj"], None), ("gpt2", ["c_attn"], None)):
    form(head_adapter(name, targets, False, saved))
    form(head_adapter(name, targets, True, saved))


@form
def head_adapter_with_own_names(folder):
    """labels.json beside it, as runs write, in place of what the base was trained for."""
    save(folder, labelled("bert"))
    adapter = adapt(folder, None, "SEQ_CLS", targets=["query"])
    write_data(folder, ("c", "a", "b"))
    ids = {"b": 0, "c": 1, "a": 2}
    loss = class_nll_of(load(folder, CLS), [ids[label] for label in "cab"])
    (adapter / "labels.json").write_text(json.dumps(list(ids)))
    case = {"task": "classification", "loss": loss, "tolerance": 1e-5, "labels": list("cab"),
            "merge": True, "arguments": []}
    (folder / "case.json").write_text(json.dumps(case))


@form
def adapter_for_classes_on_language_model(folder):
    save(folder, labelled("llama"))
    adapt(folder, None, "SEQ_CLS", targets=["q_proj"])
    shutil.rmtree(folder / "model")
    save(folder, fresh("llama"))
    refused(folder, "belongs to a classifier (task classification or regression)")


# --- both sides

def make_all(out):
    for name, function in FORMS.items():
        (out / name).mkdir(parents=True)
        function(out / name)
        shutil.rmtree(out / name / "whole", ignore_errors=True)


def check_all(out):
    for folder in sorted(out.iterdir()):
        case = json.loads((folder / "case.json").read_text())
        if not case["merge"] or "refusal" in case:
            continue
        auto = LM if case["task"] == "causal-lm" else CLS
        merged, report = auto.from_pretrained(folder / "merged", dtype=torch.float32,
                                              output_loading_info=True)
        assert not report["missing_keys"] and not report["mismatched_keys"], (folder.name, report)
        config = json.loads((folder / "merged/config.json").read_text())
        assert "quantization_config" not in config, folder.name
        assert not list((folder / "merged").glob("adapter_*")), folder.name
        loss = (nll_of(merged.eval()) if case["task"] == "causal-lm"
                else class_nll_of(merged.eval(), case["labels"]))
        error = abs(loss - case["loss"]) / case["loss"]
        assert error < case["tolerance"], (folder.name, loss, case["loss"])


def print_table(out):
    for folder in sorted(out.iterdir()):
        case = json.loads((folder / "case.json").read_text())
        what = case.get("refusal") or f"NLL {case['loss']:.6f}"
        print(f"| {folder.name} | {case['task']} | {what} | {'merged too' if case['merge'] else ''} |")


if __name__ == "__main__":
    {"make": make_all, "check": check_all, "table": print_table}[sys.argv[1]](pathlib.Path(sys.argv[2]))
