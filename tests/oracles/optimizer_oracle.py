"""Writes tests/adapters/fixtures/optimizer.json: AdamW, clipping and schedules as torch and
transformers compute them.

Run: .venv/bin/python tests/oracles/optimizer_oracle.py   (needs torch 2.13 and transformers 5)
"""
import json
import pathlib

import torch
from transformers import get_scheduler

OUT = pathlib.Path(__file__).parent.parent / "adapters" / "fixtures" / "optimizer.json"
STEPS, MAX_NORM, RATE, WARMUP = 20, 1.5, 3e-3, 0.12  # warm-up: 3 steps


def scheduler_of(name, optimizer):
    """transformers' with one more step, without its first one (rate 0)."""
    hf = "constant_with_warmup" if name == "constant" else name
    scheduler = get_scheduler(hf, optimizer, num_warmup_steps=3 + 1, num_training_steps=STEPS + 1)
    optimizer.step()
    scheduler.step()
    return scheduler


def adamw():
    torch.manual_seed(5)
    start = [torch.randn(4, 3), torch.randn(6)]
    params = [torch.nn.Parameter(t.clone()) for t in start]
    optimizer = torch.optim.AdamW(
        [{"params": [params[0]], "weight_decay": 0.1}, {"params": [params[1]], "weight_decay": 0.0}],
        lr=RATE)
    scheduler = scheduler_of("linear", optimizer)
    grads, values, norms = [], [], []
    for _ in range(STEPS):
        raw = [torch.randn_like(p) for p in params]
        grads.append([g.flatten().tolist() for g in raw])
        for p, g in zip(params, raw):
            p.grad = g.clone()
        norms.append(float(torch.nn.utils.clip_grad_norm_(params, MAX_NORM)))
        optimizer.step()
        scheduler.step()
        values.append([p.detach().flatten().tolist() for p in params])
    return {"start": [t.flatten().tolist() for t in start], "grads": grads, "values": values,
            "norms": norms, "max_norm": MAX_NORM, "rate": RATE}


def schedule(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = scheduler_of(name, optimizer)
    factors = []
    for _ in range(STEPS):
        factors.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return factors


OUT.write_text(json.dumps({
    "adamw": adamw(), "steps": STEPS, "warmup": WARMUP,
    "schedules": {name: schedule(name) for name in ("constant", "linear", "cosine")}}) + "\n")
