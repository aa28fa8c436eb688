"""Writes tests/models/fixtures/sampling.safetensors: what transformers' logits processors make of
random logits, in the order in which generate() calls them.

Run from the repository's root: .venv/bin/python tests/oracles/sampling_cases.py
For each case N: N.logits [vocab], N.text (ids so far), N.settings (temperature, top_k, top_p,
repetition_penalty; temperature 0: greedy), N.processed [vocab]."""

import torch
import transformers as tf
from safetensors.torch import save_file

FILE = "tests/models/fixtures/sampling.safetensors"
VOCAB = 40
SETTINGS = [(0.0, 0, 1.0, 1.0), (0.0, 0, 1.0, 1.7), (1.0, 0, 1.0, 1.0), (0.7, 0, 1.0, 1.0),
            (1.0, 5, 1.0, 1.0), (1.0, 100, 1.0, 1.0), (1.0, 0, 0.9, 1.0), (1.0, 0, 0.01, 1.0),
            (1.5, 12, 0.6, 1.2), (0.3, 3, 0.95, 0.8), (2.0, 1, 0.5, 1.0)]


def processors(model, settings):
    temperature, top_k, top_p, penalty = settings
    config = tf.GenerationConfig(do_sample=temperature > 0.0, repetition_penalty=penalty)
    if temperature > 0.0:
        config.update(temperature=temperature, top_k=top_k, top_p=top_p)
    return model._get_logits_processor(generation_config=config, input_ids_seq_length=8)


def main():
    torch.manual_seed(22)
    model = tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=VOCAB, n_embd=8, n_layer=1, n_head=1))
    expected = {}
    for number, settings in enumerate(SETTINGS * 3):
        logits = 3.0 * torch.randn(VOCAB)
        text = torch.randint(0, VOCAB, (8,))
        processed = processors(model, settings)(text[None], logits[None].clone())[0]
        expected |= {f"{number}.logits": logits, f"{number}.text": text,
                     f"{number}.settings": torch.tensor(settings, dtype=torch.float64),
                     f"{number}.processed": processed}
    save_file(expected, FILE)


if __name__ == "__main__":
    main()
