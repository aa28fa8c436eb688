#!/usr/bin/env python3
"""The whole chain of Laplace-LoRA in NumPy and fp64, for tests/adapters/laplace_oracle_test.cpp:
the sums of KFAC with labels in exact expectation, the dense posterior, its evidence, the prior
precision that maximises it, the linearised predictive and its class probabilities.

A classifier of two token-wise layers with LoRA factors, texts of unequal length (one by one here,
so that there is no padding; padded in C++). Gradients are written out by hand and checked by finite
differences below; precisions are inverted as dense matrices, and the probabilities that C++ draws
are integrals here (Gauss-Hermite).

    .venv/bin/python tests/oracles/laplace_oracle.py   # writes tests/adapters/fixtures/laplace.json
"""

import itertools
import json
import pathlib

import numpy as np
from scipy.optimize import brentq

VOCABULARY, WIDTH, HIDDEN, OUT, CLASSES, RANK = 9, 4, 5, 3, 3, 2
TEXTS = [[1, 2, 3, 4], [5, 6], [7, 8, 1], [2, 7, 4, 6, 3], [8, 5]]
LABELS = [0, 2, 1, 0, 1]
OTHER_PRECISION = 2.5
OUTPUT = pathlib.Path(__file__).parents[1] / "adapters" / "fixtures" / "laplace.json"


def weights():
    """Multiples of 1/1024: the same numbers in fp32, fp64 and decimal."""
    random = np.random.default_rng(7)

    def draw(*shape, scale):
        return np.round(random.normal(0.0, scale, shape) * 1024) / 1024

    return {
        "embedding": draw(VOCABULARY, WIDTH, scale=1.0),
        "w1": draw(HIDDEN, WIDTH, scale=0.5),
        "bias1": draw(HIDDEN, scale=0.2),
        "a1": draw(RANK, WIDTH, scale=0.4),
        "b1": draw(HIDDEN, RANK, scale=0.4),
        "w2": draw(OUT, HIDDEN, scale=0.6),
        "a2": draw(RANK, HIDDEN, scale=0.4),
        "b2": draw(OUT, RANK, scale=0.4),
        "head": draw(CLASSES, OUT, scale=1.5),
        "head_bias": draw(CLASSES, scale=0.3),
    }


def forward(w, text):
    x = w["embedding"][text]
    u1 = x @ w["a1"].T
    h = np.tanh(x @ w["w1"].T + w["bias1"] + u1 @ w["b1"].T)
    u2 = h @ w["a2"].T
    z = h @ w["w2"].T + u2 @ w["b2"].T
    features = np.tanh(z.mean(0))
    logits = w["head"] @ features + w["head_bias"]
    return {"x": x, "u1": u1, "h": h, "u2": u2, "features": features, "logits": logits}


def backward(w, seen, cotangent):
    """Gradients of cotangent . logits at the outputs of A and B, token by token."""
    tokens = len(seen["x"])
    pooled = (w["head"].T @ cotangent) * (1.0 - seen["features"] ** 2)
    of_b2 = np.tile(pooled / tokens, (tokens, 1))
    of_a2 = of_b2 @ w["b2"]
    of_b1 = (of_b2 @ w["w2"] + of_a2 @ w["a2"]) * (1.0 - seen["h"] ** 2)
    return {"a1": of_b1 @ w["b1"], "b1": of_b1, "a2": of_a2, "b2": of_b2}


INPUTS = {"a1": "x", "b1": "u1", "a2": "h", "b2": "u2"}


def softmax(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def augmented(features):
    return np.append(features, 1.0)


def sums(w):
    """Sums over texts, tokens and expected labels: of each factor (inputs, gradients)."""
    total = {name: [0.0, 0.0] for name in [*INPUTS, "head"]}
    log_likelihood = 0.0
    for text, label in zip(TEXTS, LABELS):
        seen = forward(w, text)
        p = softmax(seen["logits"])
        log_likelihood += np.log(p[label])
        for name, source in INPUTS.items():
            total[name][0] = total[name][0] + seen[source].T @ seen[source]
        h = augmented(seen["features"])
        total["head"][0] = total["head"][0] + np.outer(h, h)
        for y in range(CLASSES):
            score = np.eye(CLASSES)[y] - p
            for name, g in backward(w, seen, score).items():
                total[name][1] = total[name][1] + p[y] * g.T @ g
            total["head"][1] = total["head"][1] + p[y] * np.outer(score, score)
    return total, log_likelihood


def curvatures(total):
    """Gradient sum (x) mean of the inputs over tokens (the head's: over texts), row-major in W."""
    tokens = sum(len(text) for text in TEXTS)
    return {
        name: np.kron(gradients, inputs / (len(TEXTS) if name == "head" else tokens))
        for name, (inputs, gradients) in total.items()
    }


def mean_of(w, name):
    if name == "head":
        return np.concatenate([w["head"], w["head_bias"][:, None]], axis=1)
    return w[name]


def log_evidence(w, curvature, blocks, log_likelihood, precision):
    value = log_likelihood
    for name in blocks:
        theta = mean_of(w, name).ravel()
        full = curvature[name] + precision * np.eye(theta.size)
        value -= 0.5 * precision * theta @ theta
        value += 0.5 * (theta.size * np.log(precision) - np.linalg.slogdet(full)[1])
    return value


def best_precision(w, curvature, blocks):
    def slope(log_precision):
        precision, value = np.exp(log_precision), 0.0
        for name in blocks:
            theta = mean_of(w, name).ravel()
            full = curvature[name] + precision * np.eye(theta.size)
            value += theta.size - precision * np.trace(np.linalg.inv(full))
            value -= precision * theta @ theta
        return 0.5 * value

    return float(np.exp(brentq(slope, np.log(1e-6), np.log(1e6), xtol=1e-14, rtol=1e-14)))


def jacobian(w, seen, name):
    """d logits / d vec(W) of one factor: [classes, size]."""
    if name == "head":
        return np.kron(np.eye(CLASSES), augmented(seen["features"]))
    rows = []
    for c in range(CLASSES):
        g = backward(w, seen, np.eye(CLASSES)[c])[name]
        rows.append((g.T @ seen[INPUTS[name]]).ravel())
    return np.array(rows)


def covariance(w, seen, curvature, blocks, precision):
    total = np.zeros((CLASSES, CLASSES))
    for name in blocks:
        j = jacobian(w, seen, name)
        total += j @ np.linalg.solve(curvature[name] + precision * np.eye(j.shape[1]), j.T)
    return total


def integral(mean, cov, points=40):
    """E[softmax(f)], f ~ N(mean, cov)."""
    nodes, masses = np.polynomial.hermite_e.hermegauss(points)
    masses = masses / masses.sum()
    values, vectors = np.linalg.eigh(cov)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    index = np.array(list(itertools.product(range(points), repeat=len(mean))))
    f = mean + nodes[index] @ root.T
    return np.prod(masses[index], axis=1) @ softmax(f)


def probit(mean, cov):
    return softmax(mean / np.sqrt(1.0 + np.pi / 8.0 * np.diag(cov)))


def bridge(mean, cov):
    """Hobbhahn et al., eq. 11, for f less its mean over the classes."""
    centre = np.eye(CLASSES) - 1.0 / CLASSES
    mean, cov = centre @ mean, centre @ cov @ centre
    alpha = 1.0 - 2.0 / CLASSES + np.exp(mean) * np.exp(-mean).sum() / CLASSES**2
    alpha = alpha / np.diag(cov)
    return alpha / alpha.sum()


def check_gradients(w):
    step = 1e-6
    for name in [*INPUTS, "head"]:
        j = jacobian(w, forward(w, TEXTS[3]), name)
        key = "head" if name == "head" else name
        for i in np.ndindex(w[key].shape):
            ends = []
            for sign in (1.0, -1.0):
                moved = {k: v.copy() for k, v in w.items()}
                moved[key][i] += sign * step
                ends.append(forward(moved, TEXTS[3])["logits"])
            width = mean_of(w, name).shape[1]
            column = j[:, i[0] * width + i[1]]
            assert np.allclose((ends[0] - ends[1]) / (2 * step), column, atol=1e-8), (name, i)


def as_json(array):
    array = np.asarray(array, dtype=float)
    return {"shape": list(array.shape), "values": array.ravel().tolist()}


def predictions(w, curvature, blocks, precision):
    seen = [forward(w, text) for text in TEXTS]
    means = [s["logits"] for s in seen]
    covs = [covariance(w, s, curvature, blocks, precision) for s in seen]
    cases = {"covariance": covs}
    for name, predictive in {"mc": integral, "probit": probit, "bridge": bridge}.items():
        cases[name] = [predictive(m, c) for m, c in zip(means, covs)]
    return {name: as_json(np.array(rows)) for name, rows in cases.items()}


def main():
    w = weights()
    check_gradients(w)
    total, log_likelihood = sums(w)
    curvature = curvatures(total)
    kinds = {
        "laplace": list(INPUTS),
        "last-layer": ["head"],
        "laplace+head": [*INPUTS, "head"],
    }
    posteriors = {}
    for kind, blocks in kinds.items():
        best = best_precision(w, curvature, blocks)
        posteriors[kind] = {
            "precision": best,
            "log_evidence": log_evidence(w, curvature, blocks, log_likelihood, best),
            "other_log_evidence": log_evidence(
                w, curvature, blocks, log_likelihood, OTHER_PRECISION
            ),
            "at_best": predictions(w, curvature, blocks, best),
            "at_other": predictions(w, curvature, blocks, OTHER_PRECISION),
        }
    fixture = {
        "weights": {name: as_json(array) for name, array in w.items()},
        "texts": TEXTS,
        "labels": LABELS,
        "other_precision": OTHER_PRECISION,
        "logits": as_json(np.array([forward(w, text)["logits"] for text in TEXTS])),
        "log_likelihood": log_likelihood,
        "tokens": sum(len(text) for text in TEXTS),
        "inputs": {name: as_json(pair[0]) for name, pair in total.items()},
        "gradients": {name: as_json(pair[1]) for name, pair in total.items()},
        "posteriors": posteriors,
    }
    OUTPUT.write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes")
    for kind, posterior in posteriors.items():
        print(kind, posterior["precision"], posterior["log_evidence"])


main()
