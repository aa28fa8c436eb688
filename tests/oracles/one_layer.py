"""The setting of method_oracle.py and pair_optimizer_oracle.py: one linear layer W [6, 5] classifies
the rows of X [8, 5], in float64, and a case is five steps from leaves that are given."""
import json
import pathlib

import torch

STEPS, RATE, DECAY, RANK, ALPHA = 5, 0.03, 0.1, 2, 3.0
SCALE = ALPHA / RANK
torch.set_default_dtype(torch.float64)
torch.manual_seed(3)
W, X = torch.randn(6, 5), torch.randn(8, 5)
LABELS = torch.randint(0, 6, (8,))
A, B = torch.randn(RANK, 5) * 0.4, torch.randn(6, RANK) * 0.4
CASES = {}


def numbers(values):
    tensor = torch.as_tensor(values).detach()
    return {"shape": list(tensor.shape), "values": tensor.flatten().tolist()}


def add_case(name, method, options, delta, start, end):
    """`delta` is what the layer's weight has changed by; `start` and `end` are leaves by name."""
    CASES[name] = {"method": method, "options": options, "delta": numbers(delta),
                   "start": {n: numbers(v) for n, v in start.items()},
                   "end": {n: numbers(v) for n, v in end.items()}}


def pissa_start():
    """A [RANK, 5] and B [6, RANK] of W's first singular directions, their signs fixed."""
    u, s, vt = torch.linalg.svd(W)
    sign = torch.sign(u.gather(0, u.abs().argmax(0, keepdim=True)))[0, :RANK]
    root = (s[:RANK] / SCALE).sqrt() * sign
    return root[:, None] * vt[:RANK], u[:, :RANK] * root


def write(file):
    out = pathlib.Path(__file__).parent.parent / "adapters" / "fixtures" / file
    out.write_text(json.dumps(
        {"steps": STEPS, "rate": RATE, "decay": DECAY, "rank": RANK, "alpha": ALPHA,
         "weight": numbers(W), "x": numbers(X), "labels": LABELS.tolist(), "cases": CASES}) + "\n")
