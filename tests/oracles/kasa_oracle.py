"""Writes tests/adapters/fixtures/kasa_peft.json: forward and extra loss of PEFT's KaSA linear.

Run: .venv/bin/python tests/oracles/kasa_oracle.py   (needs torch and a PEFT with KasaConfig: 0.21)
"""
import json
import pathlib

import torch
from peft import KasaConfig, LoraConfig, get_peft_model

OUT = pathlib.Path(__file__).parent.parent / "adapters" / "fixtures" / "kasa_peft.json"


def numbers(tensor):
    return {"shape": list(tensor.shape), "values": tensor.detach().flatten().tolist()}


torch.manual_seed(5)
net = torch.nn.Sequential()
net.add_module("query", torch.nn.Linear(7, 5, bias=False))
weight = net.query.weight.detach().clone()
config = LoraConfig(r=3, lora_alpha=6, target_modules=["query"],
                    kasa_config=KasaConfig(beta=0.2, gamma=0.1))
model = get_peft_model(net, config)
layer = model.base_model.model.query
torch.nn.init.normal_(layer.lora_B["default"].weight)
x = torch.randn(4, 7)
OUT.write_text(json.dumps({
    "weight": numbers(weight), "x": numbers(x), "y": numbers(model(x)),
    "a": numbers(layer.lora_A["default"].weight), "b": numbers(layer.lora_B["default"].weight),
    "sigma": numbers(layer.lora_diag["default"]),
    "extra": float(model.base_model._get_kasa_loss()),
}) + "\n")
