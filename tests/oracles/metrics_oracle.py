"""Writes tests/client/fixtures/metrics.json: metrics as NumPy and SciPy compute them.

Run: .venv/bin/python tests/oracles/metrics_oracle.py   (needs numpy and scipy)
"""
import json
import pathlib

import numpy as np
from scipy import special, stats

OUT = pathlib.Path(__file__).parent.parent / "client" / "fixtures" / "metrics.json"
rng = np.random.default_rng(4)


def classification(rows, classes, sharpness):
    logits = (rng.normal(size=(rows, classes)) * sharpness).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    labels[: rows // 2] = logits[: rows // 2].argmax(1)
    p = special.softmax(logits.astype(np.float64), axis=1)
    confidence, hit = p.max(1), p.argmax(1) == labels
    edges, ece = np.linspace(0, 1, 11), 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence >= low) & ((confidence < high) | (high == 1))
        if inside.any():
            ece += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    nll = float(-np.log(p[np.arange(rows), labels]).mean())
    return {"shape": [rows, classes], "logits": logits.flatten().tolist(),
            "labels": labels.tolist(),
            "metrics": {"loss": nll, "nll": nll, "accuracy": float(hit.mean()), "ece": float(ece)}}


def regression(rows):
    targets = np.round(rng.uniform(0, 5, rows) * 2) / 2  # ties
    predictions = (targets + rng.normal(size=rows)).astype(np.float32)
    predictions[3] = predictions[4]
    x = predictions.astype(np.float64)
    mse = float(((x - targets) ** 2).mean())
    return {"predictions": predictions.tolist(), "targets": targets.tolist(),
            "metrics": {"loss": mse, "mse": mse, "pearson": float(stats.pearsonr(x, targets)[0]),
                        "spearman": float(stats.spearmanr(x, targets)[0])}}


OUT.parent.mkdir(exist_ok=True)
OUT.write_text(json.dumps({
    "classification": [classification(60, 4, 1.0), classification(30, 2, 4.0)],
    "regression": [regression(40)]}) + "\n")
