"""Writes tests/models/fixtures/{roberta,deberta_*}: random encoders and what transformers makes of
them.

Run from the repository's root: .venv/bin/python tests/oracles/encoder_cases.py
Each folder holds a checkpoint and expected.safetensors: for each case NAME its NAME.input_ids,
NAME.attention_mask, NAME.labels, NAME.logits, NAME.loss (the case `pair` also its
token_type_ids), and for the case `gradients` also
gradients.grad.<tensor> of every linear layer's weight and of the head. roberta_shards holds the
roberta checkpoint as transformers splits it, in float16, and roberta_bfloat16 in bfloat16; their
logits are those of the rounded weights in float32."""

import pathlib
import shutil
import warnings

import torch
from safetensors.torch import save_file
from transformers import (DebertaV2Config, DebertaV2ForSequenceClassification, RobertaConfig,
                          RobertaForSequenceClassification)

FIXTURES = pathlib.Path("tests/models/fixtures")
SIZES = dict(vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
             intermediate_size=12, initializer_range=0.3, num_labels=3)
DEBERTA = dict(SIZES, max_position_embeddings=12, pad_token_id=0, relative_attention=True)
DEBERTA_CASES = {
    # microsoft/deberta-v3-*
    "deberta_v3": dict(position_buckets=4, share_att_key=True, pos_att_type="p2c|c2p",
                       norm_rel_ebd="layer_norm", position_biased_input=False, type_vocab_size=0),
    # the convolution of microsoft/deberta-v2-xlarge, and what the other keys can say
    "deberta_own": dict(num_hidden_layers=1, share_att_key=False, pos_att_type=["c2p", "p2c"],
                        position_biased_input=True, type_vocab_size=2, embedding_size=6,
                        max_relative_positions=5, pooler_hidden_act="tanh", conv_kernel_size=3,
                        conv_act="gelu", conv_groups=2),
}
PAD_IN_TEXT = torch.tensor([[3, 1, 7, 9, 1, 5]])  # id 1 is RoBERTa's padding


def randomise(model):
    """Norms and biases too: from_config leaves them at 1 and 0, which hides mistakes."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))


def padded(lengths, tokens, pad):
    ids = torch.randint(2, SIZES["vocab_size"], (len(lengths), tokens))
    mask = (torch.arange(tokens)[None] < torch.tensor(lengths)[:, None]).long()
    return torch.where(mask == 1, ids, pad), mask


def is_linear_weight(model, name):
    module = model.get_submodule(name.rpartition(".")[0])
    return isinstance(module, torch.nn.Linear) and name.endswith(".weight")


def run(model, expected, name, ids, mask, types=None):
    labels = torch.arange(len(ids)) % SIZES["num_labels"]
    model.zero_grad()
    output = model(input_ids=ids, attention_mask=mask, labels=labels, token_type_ids=types)
    if types is not None:
        expected[f"{name}.token_type_ids"] = types
    expected |= {f"{name}.input_ids": ids, f"{name}.attention_mask": mask, f"{name}.labels": labels,
                 f"{name}.logits": output.logits.detach(),
                 f"{name}.loss": output.loss.detach().reshape(1)}
    if name == "gradients":
        output.loss.backward()
        for parameter_name, parameter in model.named_parameters():
            if is_linear_weight(model, parameter_name) or parameter_name.startswith("classifier."):
                expected[f"{name}.grad.{parameter_name}"] = parameter.grad.clone()


def make_case(folder, model):
    randomise(model)
    model.eval()
    pad = model.config.pad_token_id
    expected = {}
    run(model, expected, "gradients", *padded([7, 3, 5], 7, pad))
    run(model, expected, "one_token", *padded([1, 1], 1, pad))
    run(model, expected, "long", *padded([12, 9], 12, pad))
    if model.config.type_vocab_size == 2:
        ids, mask = padded([7, 4], 7, pad)
        run(model, expected, "pair", ids, mask, torch.arange(7).ge(3).long() * mask)
    if pad == 1:
        run(model, expected, "pad_in_text", PAD_IN_TEXT, torch.ones_like(PAD_IN_TEXT))
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    save_file(expected, folder / "expected.safetensors")


def make_rounded(source, name, dtype, **save_options):
    folder = FIXTURES / name
    model = RobertaForSequenceClassification.from_pretrained(source, dtype=dtype)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **save_options)
    again = RobertaForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    expected = {}
    with torch.no_grad():
        run(again, expected, "long", *padded([12, 9], 12, 1))
    save_file(expected, folder / "expected.safetensors")


def main():
    warnings.simplefilter("ignore")
    torch.manual_seed(21)
    config = RobertaConfig(**SIZES, max_position_embeddings=14, type_vocab_size=1, pad_token_id=1,
                           attn_implementation="eager")
    make_case(FIXTURES / "roberta", RobertaForSequenceClassification(config))
    make_rounded(FIXTURES / "roberta", "roberta_shards", torch.float16, max_shard_size="2KB")
    make_rounded(FIXTURES / "roberta", "roberta_bfloat16", torch.bfloat16)
    for name, options in DEBERTA_CASES.items():
        make_case(FIXTURES / name, DebertaV2ForSequenceClassification(
            DebertaV2Config(**(DEBERTA | options))))


if __name__ == "__main__":
    main()
