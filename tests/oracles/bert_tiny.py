"""Writes tests/models/fixtures/bert_tiny/: a random BERT and what transformers makes of it.

Run from the repository's root: .venv/bin/python tests/oracles/bert_tiny.py
expected.safetensors holds, for each case NAME: NAME.input_ids, NAME.attention_mask, NAME.labels,
NAME.logits, NAME.loss; for the cases `classification` and `regression` also the regression's head
and NAME.grad.<tensor> of every weight of a linear layer and of the head."""

import pathlib
import warnings

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification

FOLDER = pathlib.Path("tests/models/fixtures/bert_tiny")
SIZES = dict(vocab_size=20, hidden_size=12, num_hidden_layers=2, num_attention_heads=2,
             intermediate_size=16, max_position_embeddings=10, type_vocab_size=2,
             initializer_range=0.3, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)


def make_model(num_labels, activation="gelu", weights=None):
    config = BertConfig(**SIZES, hidden_act=activation, num_labels=num_labels,
                        attn_implementation="eager")
    model = BertForSequenceClassification(config).eval()
    if weights is not None:
        own = model.state_dict()
        model.load_state_dict({name: weights[name] if weights[name].shape == old.shape else old
                               for name, old in own.items()})
    return model


def randomise(model):
    """Norms and biases too: from_config leaves them at 1 and 0, which hides mistakes."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))


def batch_of(lengths, tokens):
    ids = torch.randint(1, SIZES["vocab_size"], (len(lengths), tokens))
    mask = (torch.arange(tokens)[None] < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask


def run(model, expected, name, lengths, tokens, labels, with_gradients=False, second_text=None):
    ids, mask = batch_of(lengths, tokens)
    types = None
    if second_text is not None:
        types = torch.arange(tokens).ge(second_text).long() * mask
        expected[f"{name}.token_type_ids"] = types
    model.zero_grad()
    output = model(input_ids=ids, attention_mask=mask, labels=labels, token_type_ids=types)
    expected |= {f"{name}.input_ids": ids, f"{name}.attention_mask": mask,
                 f"{name}.labels": labels.clone(),
                 f"{name}.logits": output.logits.detach(),
                 f"{name}.loss": output.loss.detach().reshape(1)}
    if with_gradients:
        output.loss.backward()
        for parameter_name, parameter in model.named_parameters():
            is_head = parameter_name.startswith("classifier.")
            if is_head or (parameter.dim() == 2 and "embeddings" not in parameter_name):
                expected[f"{name}.grad.{parameter_name}"] = parameter.grad.clone()


def main():
    torch.manual_seed(20)
    warnings.simplefilter("ignore")
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = make_model(num_labels=3)
    randomise(model)
    weights = model.state_dict()
    model.config.save_pretrained(FOLDER)
    save_file(weights, FOLDER / "model.safetensors", metadata={"format": "pt"})

    expected = {}
    labels = torch.tensor([2, 0, 1])
    run(model, expected, "classification", [7, 3, 5], 7, labels, with_gradients=True)
    run(model, expected, "one_row", [6], 6, torch.tensor([1]))
    run(model, expected, "one_token", [1, 1], 1, torch.tensor([1, 0]))
    run(model, expected, "full_length", [10, 10], 10, torch.tensor([0, 2]))
    for activation in ("gelu_new", "relu"):
        other = make_model(3, activation, weights)
        run(other, expected, activation, [4, 8, 1], 8, labels)
    regression = make_model(1, weights=weights)
    scores = torch.tensor([0.5, -1.25, 2.0])
    run(regression, expected, "regression", [2, 9, 9], 9, scores, with_gradients=True)
    run(model, expected, "pair", [8, 5, 6], 8, labels, second_text=3)
    expected |= {f"regression.{name}": tensor.detach().clone()
                 for name, tensor in regression.classifier.state_dict(prefix="classifier.").items()}
    save_file(expected, FOLDER / "expected.safetensors")


if __name__ == "__main__":
    main()
