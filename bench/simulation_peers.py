"""The peers of bench/simulation.py: federated averaging of LoRA factors of a Llama, as Flower,
pfl-research and a plain loop do it. `simulation_peers.py ARM CASE` runs one of them, and adds a
line to the file that the case (JSON) names after each round.

Each holds the frozen base once a process and copies the factors alone into it: none pays for a
model that is built anew, or for state dicts of whole models.
"""
import functools
import json
import os
import random
import subprocess
import sys

import torch


@functools.lru_cache
def load(model, threads):
    """The base with adapters, once a process, and its factors by name."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model, attn_implementation="sdpa")
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"],
                      task_type="CAUSAL_LM")
    adapted = get_peft_model(base, lora).train()
    return adapted, {n: p for n, p in adapted.named_parameters() if p.requires_grad}


def texts_of(case, client):
    """The client's batches of token ids, the same each time."""
    draw = torch.Generator().manual_seed(client)
    return torch.randint(3, case["vocabulary"], (case["steps"], case["batch"], case["length"]),
                         generator=draw)


def new_optimizer(factors, rate=1e-4):
    return torch.optim.AdamW(factors, lr=rate, weight_decay=0.0)


def train(model, factors, batches):
    optimizer = new_optimizer(factors.values())
    for ids in batches:
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def set_factors(factors, tensors):
    with torch.no_grad():
        for name, factor in factors.items():
            factor.copy_(tensors[name])


def published(case):
    with open(case["marks"], "a", encoding="utf-8") as file:
        file.write('{"event":"published"}\n')


def run_plain(case, threads):
    """One process."""
    model, factors = load(case["model"], threads)
    version = {name: factor.detach().clone() for name, factor in factors.items()}
    draw = random.Random(0)
    for _ in range(case["rounds"]):
        total = {name: torch.zeros_like(tensor) for name, tensor in version.items()}
        for client in draw.sample(range(case["clients"]), case["cohort"]):
            set_factors(factors, version)
            train(model, factors, texts_of(case, client))
            for name, factor in factors.items():
                total[name].add_(factor.detach(), alpha=1 / case["cohort"])
        version = total
        published(case)


def run_flower(case):
    """Ray actors of one thread each, one a core; each keeps the base from its first client on."""
    os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_USAGE_STATS_ENABLED="0",
                      RAY_worker_niceness="0")  # Ray's own, 15, starves where others work too
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    class MarkedAveraging(FedAvg):
        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            failed = [reply for reply in replies if reply.has_error()]
            if failed or len(replies) != case["cohort"]:
                raise RuntimeError(f"{len(failed)} of {len(replies)} clients failed: {failed[:1]}")
            result = super().aggregate_train(server_round, replies)
            published(case)
            return result

    server, client = ServerApp(), ClientApp()

    @server.main()
    def serve(grid, context):
        del context
        _, factors = load(case["model"], 1)
        strategy = MarkedAveraging(fraction_train=case["cohort"] / case["clients"],
                                   fraction_evaluate=0.0, min_available_nodes=case["clients"])
        strategy.start(grid=grid, num_rounds=case["rounds"],
                       initial_arrays=ArrayRecord({n: p.detach() for n, p in factors.items()}))

    @client.train()
    def answer(message, context):
        # From the module, not from what was pickled: so an actor loads the base once.
        import simulation_peers as kept
        model, factors = kept.load(case["model"], 1)
        kept.set_factors(factors, message.content["arrays"].to_torch_state_dict())
        kept.train(model, factors, kept.texts_of(case, int(context.node_config["partition-id"])))
        arrays = ArrayRecord({name: factor.detach() for name, factor in factors.items()})
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})
        return Message(content=content, reply_to=message)

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                 "init_args": {"num_cpus": case["cores"], "log_to_driver": False}}
    run_simulation(server_app=server, client_app=client, num_supernodes=case["clients"],
                   backend_config=resources)


def run_pfl(case):
    """One thread each in as many processes as cores, which share a round by torch.distributed."""
    others = []
    if case["cores"] > 1 and "RANK" not in os.environ:
        common = {"WORLD_SIZE": case["cores"], "LOCAL_WORLD_SIZE": case["cores"],
                  "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": case["port"],
                  "TORCHELASTIC_RUN_ID": "bench"}
        os.environ.update({name: str(value) for name, value in common.items()})
        for rank in range(1, case["cores"]):
            others.append(subprocess.Popen(
                [sys.executable, *sys.argv],
                env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)}))
        os.environ.update(RANK="0", LOCAL_RANK="0")
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.dataset import Dataset
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.sampling import get_user_sampler
    from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Weighted
    from pfl.model.pytorch import PyTorchModel

    model, factors = load(case["model"], 1)

    class WithLoss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.adapted = model

        def loss(self, ids, is_eval=False):
            del is_eval
            return self.adapted(input_ids=ids, labels=ids).loss

        def metrics(self, ids, is_eval=True):
            del is_eval
            return {"texts": Weighted(0.0, len(ids))}

    class Marks(TrainingProcessCallback):
        def after_central_iteration(self, metrics, model, *, central_iteration):
            if os.environ.get("RANK", "0") == "0":
                published(case)
            return super().after_central_iteration(metrics, model,
                                                   central_iteration=central_iteration)

    def texts(user):
        ids = texts_of(dict(case, steps=max(1, case["steps"])), int(user))
        return Dataset([ids.flatten(0, 1)], user_id=str(user))

    wrapped = PyTorchModel(WithLoss(), lambda _, lr: new_optimizer(factors.values(), lr),
                           torch.optim.SGD(factors.values(), lr=1.0))
    users = FederatedDataset(texts, get_user_sampler("random", list(range(case["clients"]))))
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=case["rounds"], evaluation_frequency=10**6,
            train_cohort_size=case["cohort"], val_cohort_size=0),
        backend=SimulatedBackend(training_data=users, val_data=users), model=wrapped,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=min(1, case["steps"]), local_learning_rate=1e-4,
            local_batch_size=case["batch"]),
        model_eval_params=NNEvalHyperParams(local_batch_size=case["batch"]), callbacks=[Marks()])
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for other in others:
        other.wait()


if __name__ == "__main__":
    CASE = json.loads(sys.argv[2])
    ARMS = {"plain": lambda case: run_plain(case, case["cores"]),
            "plain-1": lambda case: run_plain(case, 1),
            "pfl": run_pfl, "flower": run_flower}
    ARMS[sys.argv[1]](CASE)
