"""Writes tests/aggregation/fixtures/oracle.safetensors: four clients and what each rule makes of them.

Run from the repository's root: .venv/bin/python tests/oracles/aggregation_oracle.py
Everything is computed densely in float64 from the definitions; inputs are float32."""

import numpy as np
from safetensors.numpy import save_file

OUT, IN, RANKS, EXAMPLES = 9, 14, (4, 1, 2, 4), (30, 5, 0, 65)
ALPHAS = (8.0, 0.5, 3.0, 4.0)
random = np.random.default_rng(20240909)

shares = np.array(EXAMPLES, float) / sum(EXAMPLES)
tensors = {"examples": np.array(EXAMPLES), "stacked": np.zeros((OUT, IN))}
padded_b, padded_a = np.zeros((OUT, max(RANKS))), np.zeros((max(RANKS), IN))
same_b, same_a = np.zeros((OUT, 4)), np.zeros((4, IN))
bias = np.zeros(OUT)
for k, (rank, alpha, share) in enumerate(zip(RANKS, ALPHAS, shares)):
    b = random.normal(size=(OUT, rank)).astype(np.float32)
    a = random.normal(size=(rank, IN)).astype(np.float32)
    c = random.normal(size=OUT).astype(np.float32)
    scaled_b = (alpha / rank * b.astype(float)).astype(np.float32)  # what a client uploads
    tensors |= {f"b{k}": scaled_b, f"a{k}": a, f"bias{k}": c}
    tensors["stacked"] += share * scaled_b.astype(float) @ a.astype(float)
    padded_b[:, :rank] += share * scaled_b
    padded_a[:rank] += share * a
    bias += share * c
    if rank == 4:  # clients 0 and 3 alone, for the rule that needs one rank
        p = EXAMPLES[k] / (EXAMPLES[0] + EXAMPLES[3])
        same_b += p * scaled_b
        same_a += p * a
tensors |= {"padded_b": padded_b, "padded_a": padded_a, "fedit_b": same_b, "fedit_a": same_a,
            "bias": bias, "sigma": np.linalg.svd(tensors["stacked"], compute_uv=False)}
save_file(tensors, "tests/aggregation/fixtures/oracle.safetensors")
