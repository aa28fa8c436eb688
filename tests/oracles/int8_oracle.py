"""bitsandbytes' row-wise int8 of two small weights, for tests/models/int8_test.cpp.

    .venv/bin/python tests/oracles/int8_oracle.py    # writes tests/models/fixtures/int8.safetensors
"""
import pathlib

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import save_file


def main():
    torch.manual_seed(0)
    tensors = {}
    for name, shape in {"plain": (6, 64), "odd": (5, 13)}.items():
        weight = torch.randn(shape)
        codes, scales, _ = bnb.int8_vectorwise_quant(weight)
        tensors[f"{name}.weight"] = weight
        tensors[f"{name}.codes"] = codes
        tensors[f"{name}.scales"] = scales.float()
        tensors[f"{name}.values"] = bnb.int8_vectorwise_dequant(codes, scales)
    folder = pathlib.Path(__file__).parent.parent / "models" / "fixtures"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()},
              folder / "int8.safetensors")


if __name__ == "__main__":
    main()
