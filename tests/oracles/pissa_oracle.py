"""Writes tests/adapters/fixtures/pissa_peft.json: the start of PEFT's PiSSA linear.

Run: .venv/bin/python tests/oracles/pissa_oracle.py   (needs torch and peft 0.21)
"""
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model

OUT = pathlib.Path(__file__).parent.parent / "adapters" / "fixtures" / "pissa_peft.json"


def numbers(tensor):
    return {"shape": list(tensor.shape), "values": tensor.detach().flatten().tolist()}


torch.manual_seed(5)
net = torch.nn.Sequential()
net.add_module("query", torch.nn.Linear(7, 5))
weight = net.query.weight.detach().clone()
config = LoraConfig(r=3, lora_alpha=6, target_modules=["query"], init_lora_weights="pissa")
layer = get_peft_model(net, config).base_model.model.query
OUT.write_text(json.dumps({
    "weight": numbers(weight), "residual": numbers(layer.base_layer.weight),
    "a": numbers(layer.lora_A["default"].weight), "b": numbers(layer.lora_B["default"].weight),
}) + "\n")
