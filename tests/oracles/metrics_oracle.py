"""Writes tests/training/fixtures/metrics.json: metrics as scikit-learn, SciPy and NumPy compute them.

Run: .venv/bin/python tests/oracles/metrics_oracle.py   (needs numpy, scipy and scikit-learn)
"""
import json
import pathlib
import warnings

import numpy as np
from scipy import special, stats
from sklearn import metrics as sk

warnings.filterwarnings("ignore")
OUT = pathlib.Path(__file__).parent.parent / "training" / "fixtures" / "metrics.json"
rng = np.random.default_rng(4)


def label_metrics(truth, predicted):
    return {"accuracy": sk.accuracy_score(truth, predicted),
            "f1_macro": sk.f1_score(truth, predicted, average="macro", zero_division=0),
            "f1_micro": sk.f1_score(truth, predicted, average="micro"),
            "matthews": sk.matthews_corrcoef(truth, predicted)}


def calibration_error(p, labels):
    confidence, hit = p.max(1), p.argmax(1) == labels
    edges, ece = np.linspace(0, 1, 11), 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence >= low) & ((confidence < high) | (high == 1))
        if inside.any():
            ece += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    return float(ece)


def classification(rows, classes, sharpness):
    logits = (rng.normal(size=(rows, classes)) * sharpness).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    labels[: rows // 2] = logits[: rows // 2].argmax(1)
    p = special.softmax(logits.astype(np.float64), axis=1)
    nll = sk.log_loss(labels, p, labels=range(classes))
    one_hot = np.eye(classes)[labels]
    expected = label_metrics(labels, p.argmax(1)) | {
        "loss": nll, "nll": nll, "ece": calibration_error(p, labels),
        "brier": classes * sk.mean_squared_error(one_hot, p)}
    if classes == 2:
        expected["f1"] = sk.f1_score(labels, p.argmax(1))
        assert np.isclose(expected["brier"], 2 * sk.brier_score_loss(labels, p[:, 1]))
    return {"shape": [rows, classes], "logits": logits.flatten().tolist(),
            "labels": labels.tolist(), "metrics": expected}


def confusion(truth, predicted, classes):
    expected = label_metrics(truth, predicted)
    expected["f1"] = float(sk.f1_score(truth, predicted, labels=[1], average="macro",
                                       zero_division=0))
    return {"truth": truth, "predicted": predicted, "classes": classes, "metrics": expected}


def regression(rows):
    targets = np.round(rng.uniform(0, 5, rows) * 2) / 2  # ties
    predictions = (targets + rng.normal(size=rows)).astype(np.float32)
    predictions[3] = predictions[4]
    x = predictions.astype(np.float64)
    mse = float(sk.mean_squared_error(targets, x))
    return {"predictions": predictions.tolist(), "targets": targets.tolist(),
            "metrics": {"loss": mse, "mse": mse, "mae": float(sk.mean_absolute_error(targets, x)),
                        "pearson": float(stats.pearsonr(x, targets)[0]),
                        "spearman": float(stats.spearmanr(x, targets)[0])}}


def multiple_choice(rows):
    questions, hits = [], {"accuracy": [], "accuracy_norm": [], "accuracy_bytes": [],
                           "accuracy_tokens": []}
    for _ in range(rows):
        choices = []
        for _ in range(int(rng.integers(2, 6))):
            tokens = int(rng.integers(1, 9))
            characters = tokens + int(rng.integers(0, 20))
            choices.append({"log_likelihood": float(-tokens * rng.uniform(0.5, 3)),
                            "tokens": tokens, "characters": characters,
                            "bytes": characters + int(rng.integers(0, 10))})
        truth = int(rng.integers(0, len(choices)))
        for name, length in (("accuracy", None), ("accuracy_norm", "characters"),
                             ("accuracy_bytes", "bytes"), ("accuracy_tokens", "tokens")):
            scores = [c["log_likelihood"] / (c[length] if length else 1) for c in choices]
            hits[name].append(int(np.argmax(scores)) == truth)
        questions.append({"choices": choices, "truth": truth})
    return {"questions": questions,
            "metrics": {name: float(np.mean(hit)) for name, hit in hits.items()}}


def plain(value):
    """NumPy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


OUT.parent.mkdir(exist_ok=True)
OUT.write_text(json.dumps({
    "classification": [classification(60, 4, 1.0), classification(30, 2, 4.0)],
    "confusion": [confusion([0, 1, 2, 1, 0, 4], [0, 2, 2, 1, 1, 0], 6),
                  confusion([1, 1, 1], [1, 1, 1], 2), confusion([0, 0, 1], [0, 0, 0], 2),
                  confusion([0, 1, 1, 0, 1], [0, 1, 0, 1, 1], 2)],
    "regression": [regression(40)],
    "multiple_choice": multiple_choice(40),
}, default=plain) + "\n")
