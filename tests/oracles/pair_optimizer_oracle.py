"""Writes tests/adapters/fixtures/pair_steps.json: five steps of LoRA-Pro and LoRA-RITE in float64.

The setting is one_layer.py's. Written from the papers' formulas, not from Drystone's code;
least-squares problems are solved as such (numpy.linalg.lstsq over all unknowns) where Drystone uses
closed forms.
Run: .venv/bin/python tests/oracles/pair_optimizer_oracle.py   (needs numpy and torch)
"""
import math

import numpy as np
import one_layer
import torch
from one_layer import A, ALPHA, B, DECAY, LABELS, RANK, RATE, SCALE, STEPS, W, X
from torch.nn.functional import cross_entropy


def case(name, method, start, make_step, options, scale=SCALE, offset=0.0):
    """`offset` is what the product holds at the start and the base lacks (PiSSA)."""
    a, b = (t.numpy().copy() for t in start)
    step = make_step(scale)
    delta = lambda x, y: scale * y @ x - offset
    for t in range(STEPS):
        ta, tb = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
        loss = cross_entropy(X @ (W + delta(ta, tb)).T, LABELS)
        ga, gb = (g.numpy() for g in torch.autograd.grad(loss, [ta, tb]))
        a, b = step(t, a, b, ga, gb)
    one_layer.add_case(name, method, options, delta(torch.tensor(a), torch.tensor(b)),
                       {"lora_A": start[0], "lora_B": start[1]}, {"lora_A": a, "lora_B": b})


class Adam:
    def __init__(self):
        self.m = self.v = 0.0
        self.t = 0

    def step(self, g):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g * g
        return self.m / (1 - 0.9**self.t) / (np.sqrt(self.v / (1 - 0.999**self.t)) + 1e-8)


def ramp(t, warmup):
    return min(1.0, t / warmup) if warmup else 1.0


def directions(a, b, ga, gb, s, x, delta):
    k = np.linalg.pinv(b.T @ b, rcond=1e-12) if delta == 0 else np.linalg.inv(
        b.T @ b + delta * np.eye(RANK))
    if not b.any():
        k = np.zeros((RANK, RANK))
    aa = np.linalg.inv(a @ a.T)
    da, db = k @ ga / s**2, (np.eye(len(b)) - b @ k @ b.T) @ gb @ aa / s**2
    if x == "zero":
        return da, db
    if x == "symmetric":
        free = -0.5 / s**2 * k @ b.T @ gb @ aa
    else:  # the X that brings both closest to the raw gradients, over its entries
        columns, r = [], range(RANK)
        for i in r:
            for j in r:
                e = np.zeros((RANK, RANK))
                e[i, j] = 1.0
                columns.append(np.concatenate([(e @ a).ravel(), (-b @ e).ravel()]))
        target = np.concatenate([(ga - da).ravel(), (gb - db).ravel()])
        free = np.linalg.lstsq(np.array(columns).T, target, rcond=None)[0].reshape(RANK, RANK)
    return da + free @ a, db - b @ free


def lora_pro(mode, x, damping, warmup):
    def make(s):
        adam_a, adam_b, adam_w = Adam(), Adam(), Adam()

        def step(t, a, b, ga, gb):
            delta = damping * (1 - t / STEPS) * np.trace(a @ a.T) / RANK
            if mode == "efficient":
                da, db = directions(a, b, ga, gb, s, x, delta)
                rate = RATE * ramp(t, warmup)
                return (a * (1 - rate * DECAY) - rate * adam_a.step(da),
                        b * (1 - RATE * DECAY) - RATE * adam_b.step(db))
            da, db = directions(a, b, ga, gb, s, "zero", delta)
            u = adam_w.step(s * (b @ da + db @ a))
            da, db = directions(a, b, s * b.T @ u, s * u @ a.T, s, x, delta)
            root = math.sqrt(1 - RATE * DECAY)
            return a * root - RATE * ramp(t, warmup) * da, b * root - RATE * db
        return step
    return make


def lora_rite(moments, escape, clip, damping, warmup, balance=False):
    def make(s):
        zero = np.zeros((RANK, RANK))
        kept = {"va": zero, "vb": zero, "ra": 0.0, "rb": 0.0, "ma": 0.0, "mb": 0.0}

        def side(v, m, rho, t_, u, t):
            beta = lambda x: x * (1 - x**t) / (1 - x ** (t + 1))
            moved, b1 = t_ @ v @ t_.T, beta(0.9)
            if escape:
                lost = np.linalg.eigvalsh(v) - np.linalg.eigvalsh(moved)
                rho = (rho + np.abs(lost).max() if moments == "paper"
                       else beta(0.999) * (rho + max(0.0, min(lost.max(), lost.sum()))))
            if moments == "paper":
                v, b1 = moved + u.T @ u, 0.9
            else:
                v = beta(0.999) * moved + (1 - beta(0.999)) * u.T @ u / len(u)
            w, e = np.linalg.eigh(v)
            scaled = u @ e @ np.diag(1 / (np.sqrt(np.maximum(w, 0) + rho) + 1e-6)) @ e.T
            return v, b1 * (m @ t_.T if t else np.zeros_like(u)) + (1 - b1) * scaled, rho

        def step(t, a, b, ga, gb):
            if balance and b.any():
                c = math.sqrt(np.linalg.norm(b) / np.linalg.norm(a))
                a, b, ga, gb = a * c, b / c, ga / c, gb * c
            (qa, r_a), (qb, r_b) = np.linalg.qr(a.T), np.linalg.qr(b)
            ia = np.linalg.inv(r_a)
            ib = np.linalg.inv(r_b) if b.any() else zero
            ua, ub = ga.T @ ib, gb @ ia
            norm = math.sqrt((ua**2).sum() + (ub**2).sum())
            if clip and norm > clip:
                ua, ub = ua * clip / (norm + 1e-6), ub * clip / (norm + 1e-6)
            ta, tb = (qb.T @ kept["qb"], qa.T @ kept["qa"]) if t else (zero, zero)
            kept["va"], kept["ma"], kept["ra"] = side(kept["va"], kept["ma"], kept["ra"], ta, ua, t)
            kept["vb"], kept["mb"], kept["rb"] = side(kept["vb"], kept["mb"], kept["rb"], tb, ub, t)
            kept["qa"], kept["qb"] = qa, qb
            delta = damping * (1 - t / STEPS) * np.trace(a @ a.T) / RANK
            if delta > 0 and b.any():
                ib = np.linalg.inv(r_b.T @ r_b + delta * np.eye(RANK)) @ r_b.T
            return (a * (1 - RATE * DECAY) - RATE * ramp(t, warmup) * (kept["ma"] @ ib.T).T,
                    b * (1 - RATE * DECAY) - RATE * kept["mb"] @ ia.T)
        return step
    return make


FRESH = (A, torch.zeros_like(B))
paper = {"damping": 0.0, "warmup": 0}
case("lora-pro efficient", "lora-pro", (A, B), lora_pro("efficient", "sylvester", 0, 0), paper)
case("lora-pro efficient, fresh", "lora-pro", FRESH, lora_pro("efficient", "sylvester", 0.05, 3),
     {"damping": 0.05, "warmup": 3})
case("lora-pro efficient, zero", "lora-pro", (A, B), lora_pro("efficient", "zero", 0, 0),
     paper | {"x": "zero"})
case("lora-pro full", "lora-pro", (A, B), lora_pro("full", "sylvester", 0, 0),
     paper | {"mode": "full"})
case("lora-pro full, fresh", "lora-pro", FRESH, lora_pro("full", "sylvester", 0.01, 2),
     {"mode": "full", "damping": 0.01, "warmup": 2})
case("lora-pro full, rslora, symmetric", "lora-pro", (A, B), lora_pro("full", "symmetric", 0, 0),
     paper | {"mode": "full", "x": "symmetric", "parameterisation": "rslora"},
     scale=ALPHA / math.sqrt(RANK))
a0, b0 = one_layer.pissa_start()
case("lora-pro full, pissa", "lora-pro", (a0, b0), lora_pro("full", "sylvester", 0, 0),
     paper | {"mode": "full", "parameterisation": "pissa", "svd": "exact"},
     offset=SCALE * b0 @ a0)
plain = {"clip": 0.0, "damping": 0.0, "warmup": 0}
case("lora-rite", "lora-rite", (A, B), lora_rite("code", False, 0, 0, 0), plain)
case("lora-rite, escape, clip", "lora-rite", (A, B), lora_rite("code", True, 0.5, 0, 0),
     plain | {"clip": 0.5, "escape": "on"})
case("lora-rite, paper, fresh", "lora-rite", FRESH, lora_rite("paper", True, 0, 0, 3),
     plain | {"warmup": 3, "moments": "paper"})
case("lora-rite, damping, fresh", "lora-rite", FRESH, lora_rite("code", False, 0, 0.02, 0),
     plain | {"damping": 0.02})
case("lora-rite, balance", "lora-rite", (A, 3 * B), lora_rite("code", False, 0, 0, 0, True),
     plain | {"balance": True})
one_layer.write("pair_steps.json")
