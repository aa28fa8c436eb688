"""Random decoders of every family and what transformers makes of them.

Run from the repository's root:
  .venv/bin/python tests/oracles/decoder_cases.py --fixtures   writes tests/models/fixtures/decoders
  .venv/bin/python tests/oracles/decoder_cases.py --out DIR    writes all cases (the test does that)
A case is a folder: config.json, the weights, and expected.safetensors with, for each batch NAME:
NAME.input_ids, NAME.attention_mask, NAME.labels, NAME.segments (packed rows), NAME.logits (zeros at
padding), NAME.loss, NAME.grad.<tensor> of every linear layer; and generate.<n>.prompt/.ids: greedy
continuations. Classifiers: logits and labels of each row. All in float32 with eager attention; every
sample of a packed row, and every row of a model whose rotation depends on the length, alone."""

import argparse
import copy
import json
import pathlib
import warnings

import torch
import transformers as tf
from safetensors.torch import save_file

FIXTURES = pathlib.Path("tests/models/fixtures/decoders")
SMALL = dict(vocab_size=32, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=1, intermediate_size=12, max_position_embeddings=64, head_dim=4)
LARGE = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, intermediate_size=48, max_position_embeddings=256, head_dim=8)
COMMON = dict(initializer_range=0.2, bos_token_id=1, eos_token_id=2, pad_token_id=0)
ALTERNATING = ["sliding_attention", "full_attention"]


def gpt2(size, **more):
    return tf.GPT2Config(vocab_size=size["vocab_size"], n_embd=size["hidden_size"],
                         n_layer=size["num_hidden_layers"], n_head=size["num_attention_heads"],
                         n_positions=size["max_position_embeddings"], **COMMON, **more)


def family(config_class, **fixed):
    def make(size, **more):
        return config_class(**{**size, **COMMON, **fixed, **more})
    return make


def without_head_dim(config_class, **fixed):
    def make(size, **more):
        rest = {key: value for key, value in size.items() if key != "head_dim"}
        return config_class(**{**rest, **COMMON, **fixed, **more})
    return make


FAMILIES = {
    "llama": family(tf.LlamaConfig),
    "mistral": family(tf.MistralConfig, sliding_window=5),
    "qwen2": without_head_dim(tf.Qwen2Config),
    "qwen3": family(tf.Qwen3Config),
    "gemma": family(tf.GemmaConfig),
    "gemma2": family(tf.Gemma2Config, sliding_window=5, query_pre_attn_scalar=12,
                     attn_logit_softcapping=3.0, final_logit_softcapping=4.0),
    "gemma3_text": family(tf.Gemma3TextConfig, sliding_window=5, query_pre_attn_scalar=12,
                          layer_types=ALTERNATING),
    "phi3": without_head_dim(tf.Phi3Config),
    "gpt2": gpt2,
}


def rope(kind, **more):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


LONG = dict(short_factor=[1.0, 1.1, 1.3, 1.7], long_factor=[1.0, 2.0, 3.5, 5.0])
OLD_NAMES = {"v4": True}

# name: (family, what differs, how it is stored or run)
CASES = {
    "llama": ("llama", {}, {}),
    "llama-mha-untied-biases": ("llama", dict(num_key_value_heads=4, attention_bias=True,
                                              mlp_bias=True), {}),
    "llama-mqa-tied": ("llama", dict(num_key_value_heads=1, tie_word_embeddings=True), {}),
    "llama-head-size": ("llama", dict(head_dim=12), {}),
    "llama-bf16": ("llama", {}, dict(dtype=torch.bfloat16)),
    "llama-fp16-sharded": ("llama", {}, dict(dtype=torch.float16, shards="12KB")),
    "llama-linear": ("llama", rope("linear", factor=4.0), {}),
    "llama-linear-v4": ("llama", rope("linear", factor=4.0), OLD_NAMES),
    "llama-dynamic": ("llama", dict(max_position_embeddings=16, **rope("dynamic", factor=3.0)), {}),
    "llama3": ("llama", rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=32), {}),
    "llama3-v4": ("llama", rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                original_max_position_embeddings=32), OLD_NAMES),
    "llama-yarn": ("llama", rope("yarn", factor=4.0, original_max_position_embeddings=64), {}),
    "llama-yarn-mscale": ("llama", rope("yarn", factor=4.0, original_max_position_embeddings=64,
                                        mscale=0.7, mscale_all_dim=0.4, truncate=False,
                                        beta_fast=16.0, beta_slow=2.0), {}),
    "llama-longrope": ("llama", rope("longrope", factor=4.0, original_max_position_embeddings=12,
                                     **LONG), {}),
    "mistral-window": ("mistral", {}, {}),
    "mistral-no-window": ("mistral", dict(sliding_window=None), {}),
    "mistral-wide-window": ("mistral", dict(sliding_window=70), {}),
    "qwen2": ("qwen2", {}, {}),
    "qwen2-tied-window": ("qwen2", dict(tie_word_embeddings=True, use_sliding_window=True,
                                        sliding_window=4, max_window_layers=1), {}),
    "qwen3": ("qwen3", {}, {}),
    "qwen3-tied-bias": ("qwen3", dict(tie_word_embeddings=True, attention_bias=True), {}),
    "gemma": ("gemma", {}, {}),
    "gemma-bf16": ("gemma", {}, dict(dtype=torch.bfloat16)),
    "gemma2": ("gemma2", {}, {}),
    "gemma2-no-caps": ("gemma2", dict(attn_logit_softcapping=None, final_logit_softcapping=None),
                       {}),
    "gemma3": ("gemma3_text", {}, {}),
    "gemma3-cap-linear": ("gemma3_text", dict(
        final_logit_softcapping=5.0, rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}), {}),
    "phi3": ("phi3", {}, {}),
    "phi3-partial-window": ("phi3", dict(sliding_window=6, partial_rotary_factor=0.5), {}),
    "phi3-longrope": ("phi3", dict(original_max_position_embeddings=12, **rope(
        "longrope", **LONG)), {}),
    "phi3-longrope-v4": ("phi3", dict(original_max_position_embeddings=12, **rope(
        "longrope", **LONG)), OLD_NAMES),
    "gpt2": ("gpt2", {}, {}),
    "gpt2-inverse-layer-scale": ("gpt2", dict(scale_attn_by_inverse_layer_idx=True, n_inner=40),
                                 {}),
}
CLASSIFIERS = {"llama": 3, "gemma3_text": 3, "phi3": 1, "gpt2": 3}  # labels


def randomise(model):
    """Norms and biases too: from_config leaves them at 1 and 0, which hides mistakes."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))


def reset_rotation(model):
    """Dynamic rotation remembers the longest text; a fresh model is what is meant."""
    for module in model.modules():
        if hasattr(module, "original_inv_freq"):
            module.inv_freq = module.original_inv_freq.clone()
            module.max_seq_len_cached = module.original_max_seq_len


def run(model, ids, mask):
    """Logits of a padded batch, positions counted from each row's first token."""
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    more = dict(position_ids=positions)
    return model(input_ids=ids, attention_mask=mask, **more).logits


def run_alone(model, ids, mask, segments):
    """The same, every sample on its own."""
    samples = []
    for row in range(len(ids)):
        places = mask[row].nonzero()[:, 0]
        numbers = segments[row, places]
        samples += [(row, places[numbers == n]) for n in numbers.unique()]
    logits = torch.zeros(*ids.shape, model.config.vocab_size)
    for row, places in samples:
        reset_rotation(model)
        alone = model(input_ids=ids[row, places][None]).logits[0]
        logits = logits.index_put((torch.full_like(places, row), places), alone)
    return logits


def loss_of(logits, labels, mask, segments):
    wanted = (labels[:, 1:] != -100) & (mask[:, 1:] * mask[:, :-1] > 0)
    wanted &= segments[:, 1:] == segments[:, :-1]
    return torch.nn.functional.cross_entropy(logits[:, :-1][wanted], labels[:, 1:][wanted])


def batches(vocab, long_tokens):
    """NAME: ids, mask, labels, segments."""
    def tokens(rows, width):
        return torch.randint(3, vocab, (rows, width))

    def mask_of(lengths, width, left=False):
        mask = (torch.arange(width)[None] < torch.tensor(lengths)[:, None]).long()
        return mask.flip(1) if left else mask

    for name, left in (("right", False), ("left", True)):
        mask = mask_of([11, 6, 3], 11, left)
        ids = tokens(3, 11) * mask
        labels = torch.where(mask > 0, ids, -100)
        labels[0, :4] = -100  # a prompt
        yield name, ids, mask, labels, None
    ids = tokens(2, 14)
    mask = mask_of([14, 12], 14)
    segments = torch.tensor([[0] * 5 + [1] * 3 + [2] * 6, [0] * 9 + [1] * 5])
    yield "packed", ids * mask, mask, torch.where(mask > 0, ids, -100), segments
    if long_tokens:
        plain = tokens(2, 10)
        yield "plain", plain, torch.ones_like(plain), plain.clone(), None
        ids = tokens(2, long_tokens)
        mask = mask_of([long_tokens, long_tokens - 19], long_tokens)
        yield "long", ids * mask, mask, torch.where(mask > 0, ids, -100), None


def is_adapted(name, parameter):
    skipped = ("embed", "lm_head", "wte", "wpe")
    return parameter.dim() == 2 and not any(part in name for part in skipped)


def add_gradients(model, loss, expected, name):
    model.zero_grad()
    loss.backward()
    expected |= {f"{name}.grad.{parameter_name}": parameter.grad.clone()
                 for parameter_name, parameter in model.named_parameters()
                 if is_adapted(parameter_name, parameter)}


def language_model(model, alone, long_tokens):
    """A small set (no long texts) has the gradients of one batch only."""
    expected = {}
    for name, ids, mask, labels, segments in batches(model.config.vocab_size, long_tokens):
        numbers = torch.zeros_like(ids) if segments is None else segments
        if alone or segments is not None:
            logits = run_alone(model, ids, mask, numbers)
        else:
            logits = run(model, ids, mask)
        loss = loss_of(logits, labels, mask, numbers)
        if long_tokens or name == "packed":
            add_gradients(model, loss, expected, name)
        expected |= {f"{name}.input_ids": ids, f"{name}.attention_mask": mask,
                     f"{name}.labels": labels, f"{name}.loss": loss.detach().reshape(1),
                     f"{name}.logits": (logits * mask[..., None]).detach()}
        if segments is not None:
            expected[f"{name}.segments"] = segments
    for number, length in enumerate((1, 9, 4)):
        prompt = torch.randint(3, model.config.vocab_size, (1, length))
        reset_rotation(model)
        # Of a cache, LongRoPE's keys of the short text stay when the text becomes a long one.
        kind = (getattr(model.config, "rope_parameters", None) or {}).get("rope_type")
        ids = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=16,
                             do_sample=False, use_cache=kind != "longrope")
        expected |= {f"generate.{number}.prompt": prompt[0],
                     f"generate.{number}.ids": ids[0, length:].clone()}
    return expected


def classifier(model):
    expected = {}
    is_regression = model.config.num_labels == 1
    for name, ids, mask, _, segments in batches(model.config.vocab_size, 30):
        if segments is not None:
            continue
        labels = (torch.randn(len(ids)) if is_regression
                  else torch.randint(0, model.config.num_labels, (len(ids),)))
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        output = model(input_ids=ids, attention_mask=mask, position_ids=positions, labels=labels)
        add_gradients(model, output.loss, expected, name)
        expected |= {f"{name}.input_ids": ids, f"{name}.attention_mask": mask,
                     f"{name}.labels": labels, f"{name}.logits": output.logits.detach(),
                     f"{name}.loss": output.loss.detach().reshape(1)}
    return expected


def use_old_names(file):
    """config.json as transformers 4 wrote it."""
    config = json.loads(file.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    parameters.pop("partial_rotary_factor", None)
    if "original_max_position_embeddings" in config:
        parameters.pop("original_max_position_embeddings", None)
    parameters["type"] = parameters.pop("rope_type")
    config["rope_scaling"] = parameters
    config["torch_dtype"] = config.pop("dtype", "float32")
    file.write_text(json.dumps(config, indent=2))


def store(model, folder, expected, dtype=torch.float32, shards="1GB", v4=False):
    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(dtype).save_pretrained(folder, max_shard_size=shards)
    if v4:
        use_old_names(folder / "config.json")
    save_file({name: tensor.contiguous() for name, tensor in expected.items()},
              folder / "expected.safetensors")
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)


def make(config, task):
    config._attn_implementation = "eager"
    model = getattr(tf, f"AutoModelFor{task}").from_config(config, attn_implementation="eager")
    randomise(model)
    return model.eval()


def write_language_model(folder, config, long_tokens, **storage):
    model = make(config, "CausalLM")
    model.generation_config.eos_token_id = 2
    with torch.no_grad():  # parameters only: the rotation's buffers stay as they are
        for parameter in model.parameters():
            parameter.copy_(parameter.to(storage.get("dtype", torch.float32)))
    parameters = getattr(config, "rope_parameters", None) or {}
    alone = parameters.get("rope_type") in ("dynamic", "longrope")
    store(model, folder, language_model(model, alone, long_tokens), **storage)


def write_fixtures():
    """One small model a family: logits, loss, gradients and a continuation."""
    for name, config_of in FAMILIES.items():
        write_language_model(FIXTURES / name, config_of(SMALL), 0)
        (FIXTURES / name / "generation_config.json").unlink()


def write_all(out):
    for name, (family_name, more, storage) in CASES.items():
        config = FAMILIES[family_name]({**LARGE}, **more) if family_name == "gpt2" else FAMILIES[
            family_name]({**LARGE, **more})
        write_language_model(out / name, config, 150, **storage)
    for name, labels in CLASSIFIERS.items():
        config = FAMILIES[name]({**LARGE})
        config.num_labels = labels
        model = make(config, "SequenceClassification")
        store(model, out / f"{name}-classifier-{labels}", classifier(model))
    (out / "complete").write_text("")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fixtures", action="store_true")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.manual_seed(21)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tf.utils.logging.set_verbosity_error()
    if arguments.fixtures:
        write_fixtures()
    if arguments.out:
        write_all(arguments.out)


if __name__ == "__main__":
    main()
