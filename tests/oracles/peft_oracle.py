"""The other side of tests/adapters/peft_io_test.cpp, which runs it.

peft_oracle.py base DIR    writes a tiny random BertForSequenceClassification to DIR/base
peft_oracle.py logits DIR  loads DIR/adapter onto it with PEFT, writes its logits for two rows of ids
                           to DIR/logits.safetensors and PEFT's own copy of the adapter to DIR/resaved
"""
import pathlib
import sys
import warnings

warnings.filterwarnings("ignore")
import torch  # noqa: E402
from peft import PeftModel  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import BertConfig, BertForSequenceClassification  # noqa: E402


def make_base(folder):
    torch.manual_seed(3)
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=24, max_position_embeddings=32, num_labels=3)
    BertForSequenceClassification(config).save_pretrained(folder / "base")


def compute_logits(folder):
    base = BertForSequenceClassification.from_pretrained(folder / "base", num_labels=3)
    model = PeftModel.from_pretrained(base, folder / "adapter").eval()
    with torch.no_grad():
        logits = model(input_ids=torch.arange(5, 17).view(2, 6)).logits
    save_file({"logits": logits.contiguous()}, folder / "logits.safetensors")
    model.save_pretrained(folder / "resaved")


{"base": make_base, "logits": compute_logits}[sys.argv[1]](pathlib.Path(sys.argv[2]))
