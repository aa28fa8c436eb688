"""bitsandbytes' NF4 of a few small weights, for tests/models/nf4_test.cpp.

    .venv/bin/python tests/oracles/nf4_oracle.py    # writes tests/models/fixtures/nf4.safetensors
"""
import pathlib

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import save_file

SHAPES = {"plain": (6, 64), "straddling": (7, 40), "odd": (5, 13)}
MANY = (96, 192)  # more than 256 blocks: two groups of doubly quantised scales


def spread(count):
    """Numbers that the C++ test makes too: exact in float32."""
    index = torch.arange(count, dtype=torch.int64)
    return ((index * 2654435761 % 65536).double() / 32768 - 1) * (1 + index // 64 % 7).double()


def add(tensors, name, weight):
    for nested in (False, True):
        codes, state = bnb.quantize_4bit(weight, blocksize=64, compress_statistics=nested,
                                         quant_type="nf4")
        scales = state.absmax
        if nested:
            scales = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
        key = f"{name}.{'double' if nested else 'single'}"
        tensors[f"{key}.codes"] = codes.flatten()
        tensors[f"{key}.scales"] = scales


def main():
    torch.manual_seed(0)
    tensors = {}
    for name, shape in SHAPES.items():
        weight = torch.randn(shape)
        if name == "odd":
            weight[0, :] = 0.0
        add(tensors, name, weight)
        tensors[f"{name}.weight"] = weight
    add(tensors, "many", spread(MANY[0] * MANY[1]).reshape(MANY).float())
    tensors["map"] = bnb.create_dynamic_map()
    folder = pathlib.Path(__file__).parent.parent / "models" / "fixtures"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()},
              folder / "nf4.safetensors")


if __name__ == "__main__":
    main()
