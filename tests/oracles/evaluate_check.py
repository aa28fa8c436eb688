"""Computes the metrics of `drystone evaluate` again, from its predictions.

evaluate_check.py TASK PREDICTIONS REPORT   PREDICTIONS: what --predictions wrote; REPORT: what --json
                                            printed. Fails where a number differs.
"""
import json
import math
import pathlib
import sys
import warnings
from fractions import Fraction

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from final_answer_cases import final_answer, flexible, is_match, strict

warnings.filterwarnings("ignore")


def classification(rows):
    truth, predicted = [r["label"] for r in rows], [r["prediction"] for r in rows]
    p = np.exp(np.array([r["log_probabilities"] for r in rows]))
    assert (p.argmax(1) == predicted).all()
    hit, confidence = p.argmax(1) == truth, p.max(1)
    bins = np.minimum((confidence * 10).astype(int), 9)
    nll = sk.log_loss(truth, p, labels=range(p.shape[1]))
    result = {"accuracy": sk.accuracy_score(truth, predicted), "loss": nll, "nll": nll,
              "f1_macro": sk.f1_score(truth, predicted, average="macro", zero_division=0),
              "f1_micro": sk.f1_score(truth, predicted, average="micro"),
              "matthews": sk.matthews_corrcoef(truth, predicted),
              "brier": ((p - np.eye(p.shape[1])[truth]) ** 2).sum(1).mean(),
              "ece": sum(abs(hit[bins == b].sum() - confidence[bins == b].sum())
                         for b in range(10)) / len(rows)}
    if p.shape[1] == 2:
        result["f1"] = sk.f1_score(truth, predicted, zero_division=0)
    return result


def regression(rows):
    truth, predicted = [r["target"] for r in rows], [r["prediction"] for r in rows]
    mse = sk.mean_squared_error(truth, predicted)
    return {"loss": mse, "mse": mse, "mae": sk.mean_absolute_error(truth, predicted),
            "pearson": stats.pearsonr(truth, predicted)[0],
            "spearman": stats.spearmanr(truth, predicted)[0]}


def causal_lm(rows):
    targets = sum(r["targets"] for r in rows)
    loss = sum(r["nll"] for r in rows) / targets
    return {"loss": loss, "perplexity": math.exp(loss), "targets": targets}


def multiple_choice(rows):
    def accuracy(length):
        return np.mean([int(np.argmax([c["log_likelihood"] / (c[length] if length else 1)
                                       for c in r["choices"]])) == r["answer"] for r in rows])
    return {"accuracy": accuracy(None), "accuracy_norm": accuracy("characters"),
            "accuracy_bytes": accuracy("bytes"), "accuracy_tokens": accuracy("tokens")}


def number(answer):
    try:
        return Fraction(answer)
    except (ValueError, ZeroDivisionError):
        return answer


def exact_match(rows):
    def share(hits):
        return np.mean(list(hits))
    return {"exact_match": share(final_answer(r["reference"]) != "" and number(
                final_answer(r["generated"])) == number(final_answer(r["reference"])) for r in rows),
            "exact_match_strict": share(is_match(strict(r["generated"]), r["reference"])
                                        for r in rows),
            "exact_match_flexible": share(is_match(flexible(r["generated"]), r["reference"])
                                          for r in rows)}


TASKS = {"classification": classification, "regression": regression, "causal-lm": causal_lm,
         "multiple-choice": multiple_choice, "exact-match": exact_match}


def check(task, predictions, report):
    rows = [json.loads(line) for line in pathlib.Path(predictions).read_text().splitlines()]
    actual = json.loads(pathlib.Path(report).read_text())
    assert actual["examples"] == len(rows) or task == "causal-lm"
    assert [r["example"] for r in rows] == sorted(r["example"] for r in rows)
    expected = TASKS[task](rows)
    for name, value in expected.items():
        assert math.isclose(actual[name], value, rel_tol=1e-5, abs_tol=1e-9), \
            (name, actual[name], value)
    extra = set(actual) - set(expected) - {"examples", "seconds", "left_out"}
    assert not extra, extra
    print(f"{task}: {len(expected)} metrics of {len(rows)} examples are equal")


check(*sys.argv[1:])
