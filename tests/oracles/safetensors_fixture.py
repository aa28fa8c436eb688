"""Writes tests/tensors/fixtures/all_dtypes.safetensors and float32.safetensors.

Run from the repository's root: .venv/bin/python tests/oracles/safetensors_fixture.py
The files hold arithmetic patterns only, so the test can rebuild every value."""

import pathlib

import torch
from safetensors.torch import save_file

FOLDER = pathlib.Path("tests/tensors/fixtures")
COUNT = torch.arange(6).reshape(2, 3)

DTYPES = {
    "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16,
    "i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8,
    "u8": torch.uint8,
}

tensors = {name: (COUNT * 2 + 1).to(dtype) for name, dtype in DTYPES.items()}
tensors["bool"] = COUNT % 2 == 0
tensors["scalar"] = torch.tensor(7.5)
tensors["empty"] = torch.zeros(0, 4)
save_file(tensors, FOLDER / "all_dtypes.safetensors", metadata={"format": "pt"})

floats = {"b": COUNT.float() / 8, "a": -COUNT.float(), "é \"quoted\"": torch.ones(1)}
save_file(floats, FOLDER / "float32.safetensors", metadata={"format": "drystone"})
