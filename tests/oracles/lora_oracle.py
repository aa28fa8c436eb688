"""Writes tests/adapters/fixtures/lora_peft.json: outputs and gradients of PEFT's LoRA linear.

Run: .venv/bin/python tests/oracles/lora_oracle.py   (needs torch and peft 0.21)
"""
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model

OUT = pathlib.Path(__file__).parent.parent / "adapters" / "fixtures" / "lora_peft.json"
IN, FEATURES, RANK, ALPHA, ROWS = 7, 5, 3, 12, 4


def numbers(tensor):
    return {"shape": list(tensor.shape), "values": tensor.detach().flatten().tolist()}


def case(use_rslora):
    torch.manual_seed(11)
    net = torch.nn.Sequential()
    net.add_module("query", torch.nn.Linear(IN, FEATURES))
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["query"], use_rslora=use_rslora)
    model = get_peft_model(net, config)
    layer = model.base_model.model.query
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(2, ROWS // 2, IN, requires_grad=True)
    grad = torch.randn(2, ROWS // 2, FEATURES)
    y = model(x)
    y.backward(grad)
    return {
        "rank": RANK, "alpha": ALPHA, "rslora": use_rslora,
        "weight": numbers(layer.base_layer.weight), "bias": numbers(layer.base_layer.bias),
        "a": numbers(layer.lora_A["default"].weight), "b": numbers(layer.lora_B["default"].weight),
        "x": numbers(x), "grad": numbers(grad), "y": numbers(y), "dx": numbers(x.grad),
        "da": numbers(layer.lora_A["default"].weight.grad),
        "db": numbers(layer.lora_B["default"].weight.grad),
        "delta": numbers(layer.get_delta_weight("default")),
    }


OUT.write_text(json.dumps([case(False), case(True)]) + "\n")
