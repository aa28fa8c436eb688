"""The other side of tests/adapters/peft_io_test.cpp, which runs it. For each FAMILY of bert, roberta
and deberta:

peft_oracle.py base DIR    writes a tiny random sequence classifier to DIR/FAMILY/base
peft_oracle.py logits DIR  loads DIR/FAMILY/adapter onto it with PEFT, writes its logits for two rows
                           of ids to DIR/FAMILY/logits.safetensors and PEFT's own copy of the adapter
                           to DIR/FAMILY/resaved

And of tests/simulation/member_adapters_test.cpp:

peft_oracle.py causal MODEL ADAPTER  the same of a language model in MODEL: ADAPTER/logits.safetensors
"""
import pathlib
import sys
import warnings

warnings.filterwarnings("ignore")
import torch  # noqa: E402
from peft import PeftModel  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import (AutoModelForCausalLM, AutoModelForSequenceClassification,  # noqa: E402
                          BertConfig, DebertaV2Config, RobertaConfig)

CONFIGS = {
    "bert": (BertConfig, {}),
    "roberta": (RobertaConfig, dict(type_vocab_size=1)),
    "deberta": (DebertaV2Config, dict(relative_attention=True, position_buckets=4,
                                      share_att_key=True, pos_att_type="p2c|c2p",
                                      norm_rel_ebd="layer_norm", position_biased_input=False)),
}


def make_base(folder, family):
    torch.manual_seed(3)
    kind, more = CONFIGS[family]
    config = kind(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                  intermediate_size=24, max_position_embeddings=32, num_labels=3, **more)
    model = AutoModelForSequenceClassification.from_config(config)
    if family == "deberta":  # saved as Microsoft's checkpoints are: without pooler and classifier
        model = model.deberta
    model.save_pretrained(folder / "base")


def write_logits(base, adapter, out):
    model = PeftModel.from_pretrained(base, adapter).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.arange(5, 17).view(2, 6)).logits
    save_file({"logits": logits.contiguous()}, out / "logits.safetensors")
    return model


def compute_logits(folder):
    base = AutoModelForSequenceClassification.from_pretrained(folder / "base", num_labels=3)
    write_logits(base, folder / "adapter", folder).save_pretrained(folder / "resaved")


paths = [pathlib.Path(argument) for argument in sys.argv[2:]]
if sys.argv[1] == "causal":
    write_logits(AutoModelForCausalLM.from_pretrained(paths[0]), paths[1], paths[1])
else:
    for name in CONFIGS:
        if sys.argv[1] == "base":
            make_base(paths[0] / name, name)
        else:
            compute_logits(paths[0] / name)
