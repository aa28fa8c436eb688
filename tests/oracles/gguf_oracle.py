"""The other side of tests/programs/export_test.cpp, which runs it.

gguf_oracle.py make DIR   writes DIR/FAMILY/base/config.json and a random PEFT adapter of mixed ranks
                          in DIR/FAMILY/adapter, for each family
gguf_oracle.py check DIR  reads DIR/FAMILY/adapter.gguf with the gguf package and compares: metadata,
                          names (against the package's own table), shapes, and every tensor
"""
import json
import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

HIDDEN, HEADS, KV_HEADS, HEAD, WIDE = 16, 4, 2, 4, 24
SPLIT = {"self_attn.q_proj": (HEADS * HEAD, HIDDEN), "self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
         "self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN), "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
         "mlp.gate_proj": (WIDE, HIDDEN), "mlp.up_proj": (WIDE, HIDDEN),
         "mlp.down_proj": (HIDDEN, WIDE)}
FUSED = {"self_attn.qkv_proj": ((HEADS + 2 * KV_HEADS) * HEAD, HIDDEN),
         "self_attn.o_proj": (HIDDEN, HEADS * HEAD), "mlp.gate_up_proj": (2 * WIDE, HIDDEN),
         "mlp.down_proj": (HIDDEN, WIDE)}
GPT2 = {"attn.c_attn": (3 * HIDDEN, HIDDEN), "attn.c_proj": (HIDDEN, HIDDEN),
        "mlp.c_fc": (WIDE, HIDDEN), "mlp.c_proj": (HIDDEN, WIDE)}
# model_type: (llama.cpp's architecture, block's name, linear layers)
FAMILIES = {"llama": ("LLAMA", "model.layers", SPLIT), "mistral": ("LLAMA", "model.layers", SPLIT),
            "qwen2": ("QWEN2", "model.layers", SPLIT), "qwen3": ("QWEN3", "model.layers", SPLIT),
            "gemma": ("GEMMA", "model.layers", SPLIT), "gemma2": ("GEMMA2", "model.layers", SPLIT),
            "gemma3_text": ("GEMMA3", "model.layers", SPLIT),
            "phi3": ("PHI3", "model.layers", FUSED), "gpt2": ("GPT2", "transformer.h", GPT2)}
VOCAB = 40
ENDS = {"lm_head": (VOCAB, HIDDEN), "model.embed_tokens": (HIDDEN, VOCAB)}  # of untied families
TIED = ("gemma", "gemma2", "gemma3_text", "gpt2")
RANK, ALPHA = 4, 8.0


def modules_of(family):
    _, block, parts = FAMILIES[family]
    inner = {f"{block}.{i}.{part}": shape for i in range(2) for part, shape in parts.items()}
    return inner if family in TIED else inner | ENDS


def keys_of(name):
    if name == "model.embed_tokens":
        return f"base_model.model.{name}.lora_embedding_A", f"base_model.model.{name}.lora_embedding_B"
    return f"base_model.model.{name}.lora_A.weight", f"base_model.model.{name}.lora_B.weight"


def make(folder, family):
    rng = np.random.default_rng(5)
    (folder / "base").mkdir(parents=True)
    (folder / "adapter").mkdir()
    config = {"model_type": family, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS}
    (folder / "base" / "config.json").write_text(json.dumps(config))
    tensors, ranks = {}, {}
    for number, (name, (rows, columns)) in enumerate(modules_of(family).items()):
        rank = 2 if number == 1 else RANK
        if rank != RANK:
            ranks[name] = rank
        key_a, key_b = keys_of(name)
        tensors |= {key_a: rng.normal(size=(rank, columns)), key_b: rng.normal(size=(rows, rank))}
    save_file({name: tensor.astype(np.float32) for name, tensor in tensors.items()},
              folder / "adapter" / "adapter_model.safetensors")
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA,
         "base_model_name_or_path": str(folder / "base"), "rank_pattern": ranks}))


def llama_rows(b, heads):
    """Row r of a head's first half, then row r of its second half, for each r."""
    half = len(b) // heads // 2
    order = [h * 2 * half + part * half + r
             for h in range(heads) for r in range(half) for part in (0, 1)]
    return b[order]


def check(folder, family):
    arch = gguf.MODEL_ARCH[FAMILIES[family][0]]
    names = gguf.get_tensor_name_map(arch, 2)
    reader = gguf.GGUFReader(folder / "adapter.gguf")
    value = {key: field.contents() for key, field in reader.fields.items()}
    assert value["general.architecture"] == gguf.MODEL_ARCH_NAMES[arch]
    assert value["general.type"] == "adapter" and value["adapter.type"] == "lora"
    alpha = value["adapter.lora.alpha"]
    own = {tensor.name: tensor for tensor in reader.tensors}
    peft = load_file(folder / "adapter" / "adapter_model.safetensors")
    for name in modules_of(family):
        a, b = (peft[key] for key in keys_of(name))
        rank = len(a)
        if name == "model.embed_tokens":
            a = a.T  # llama.cpp looks its rows up
        target = names.get_name(name + ".weight", try_suffixes=(".weight",))
        lora_a, lora_b = own.pop(target + ".lora_a"), own.pop(target + ".lora_b")
        assert lora_a.tensor_type == lora_b.tensor_type == gguf.GGMLQuantizationType.F32
        assert lora_a.shape.tolist() == list(a.shape[::-1])  # llama.cpp's ne: innermost first
        assert lora_b.shape.tolist() == [rank, len(b)]
        if arch == gguf.MODEL_ARCH.LLAMA and name.endswith(("q_proj", "k_proj")):
            b = llama_rows(b, HEADS if name.endswith("q_proj") else KV_HEADS)
        # llama.cpp adds alpha / rank · B·A; PEFT lora_alpha / r · B·A
        np.testing.assert_array_equal(lora_a.data, a)
        np.testing.assert_array_equal(lora_b.data * np.float32(alpha / rank), b * (ALPHA / rank))
    assert not own, own.keys()


for model_type in FAMILIES:
    {"make": make, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]) / model_type, model_type)
