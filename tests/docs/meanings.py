"""What each command that the pages show means in the stand-in checkout: what its placeholders stand for and
what completes a mere mention, in an order in which one could type them. And what no test can run, and why.
"""
from typing import NamedTuple

CLASSIFIER, LANGUAGE_MODEL = ".data/news/model", ".data/tales/model"


class Group(NamedTuple):
    means: dict[str, str]  # placeholder: its meaning here
    rows: list[tuple[str, str]]  # a command as it is shown, what completes it
    folders: tuple[str, ...] = ()  # of rows that run at the same time: where


PREPARED = Group({}, [
    ("./dev help", ""),
    ("./dev fuzz", ""),
    ("python3 examples/shakespeare/prepare.py plays.txt", ""),
])

GROUPS = [
    Group({"tcp://HOST:5570": "tcp://127.0.0.1:{port}", "CONFIG.toml": "federation.toml"}, [
        ("drystone", "--version"),
        ("build/bin/drystone simulate federation.toml", ""),
        ("drystone simulate", "federation.toml --resume"),
        ("drystone simulate --memory-limit 3GB", "federation.toml --set 'aggregation.rule=\"zero-pad\"'"),
        ("build/bin/drystone provision federation.toml --out parties --address tcp://HOST:5570", ""),
        ("drystone provision", "federation.toml --out with-base --copy-model"),
        ("drystone provision --update", "federation.toml --out parties"),
        ("drystone keys new", "client-3"),
        ("drystone preflight CONFIG.toml", ""),
    ]),
    Group({}, [
        ("drystone-coordinator coordinator.toml", ""),
        ("drystone-client client.toml", ""),
        ("drystone-client --memory-limit", "3GB client.toml"),
        ("drystone-client", "client.toml"),
    ], ("parties/coordinator", "parties/client-1", "parties/client-2", "parties/evaluator")),
    Group({"RUN": "run", "STATE": "parties/coordinator/run/state"}, [
        ("drystone-coordinator", "parties/coordinator/coordinator.toml"),
        ("drystone inspect STATE", ""),
        ("drystone status STATE", ""),
        ("drystone status", "RUN"),
        ("drystone status parties/coordinator/run", ""),
        ("drystone inspect --verify", "parties/coordinator/run"),
        ("drystone inspect RUN --verify", ""),
        ("build/bin/drystone inspect runs/news-demo/parties/coordinator/run --verify", ""),
    ]),
    Group({"client-5.request": "keys/client-5.request"}, [
        ("drystone keys", "list --config parties/coordinator/coordinator.toml"),
        ("drystone keys request client-5", ""),
        ("drystone keys request", "client-6"),
        ("drystone keys approve client-5.request", "--config parties/coordinator/coordinator.toml"),
        ("drystone keys revoke client-2", "--below-quorum --config parties/coordinator/coordinator.toml"),
        ("drystone keys renew", "--config parties/client-1/client.toml"),
        ("drystone keys renew --use", "--config parties/client-1/client.toml"),
        ("drystone keys list", "--config parties/coordinator/coordinator.toml"),
    ]),
    Group({"M": CLASSIFIER, "BASE": CLASSIFIER, "RUN": "run", "runs/sst2": "run", "DIR": "merged"}, [
        ("drystone evaluate --model M --adapter RUN/global --data test.jsonl", ""),
        ("drystone evaluate --model BASE --adapter runs/sst2/global --data sst2_dev.jsonl.gz "
         "--text-field sentence --task classification --json", ""),
        ("drystone evaluate --help", ""),
        ("drystone merge --model M --adapter RUN/global --out DIR", ""),
        ("drystone merge", "--model M --adapter RUN/global --out cut --rank 64"),
    ]),
    Group({"DIR": CLASSIFIER, "[--adapter DIR]": "--adapter run/global",
           "FILE": "test.jsonl", "T": "classification"}, [
        ("drystone evaluate --model DIR [--adapter DIR] --data FILE --task T", ""),
        ("drystone tokenize --model DIR", "<<< 'a b c'"),
    ]),
    Group({"MODEL": CLASSIFIER}, [
        ("drystone simulate fed.toml --set output.dir=runs/news", ""),
        ("drystone simulate fed.toml --set output.dir=runs/news-posterior "
         "--set model.adapter=runs/news/global --set training.method=laplace-lora --set training.rank=8 "
         "--set federation.rounds=1", ""),
        ("drystone evaluate --model MODEL --posterior runs/news-posterior/global --data test.jsonl", ""),
        ("drystone evaluate --posterior", "runs/news-posterior/global --model MODEL --data test.jsonl "
         "--validation test.jsonl --mc-dropout 2"),
    ]),
    Group({"M": CLASSIFIER, "RUN": "runs/news-lora-ensemble"}, [
        ("drystone evaluate --model M --ensemble RUN/global --data test.jsonl", ""),
    ]),
    Group({"BASE": CLASSIFIER, "RUN": "runs/news-loraprune", "SMALLER": "smaller"}, [
        ("drystone merge --model BASE --adapter RUN/global --out SMALLER", ""),
        ("drystone evaluate", "--model BASE --adapter RUN/global --data test.jsonl"),
        ("drystone export", "--adapter RUN/global --format peft --out exported --tolerance 0.01"),
    ]),
    Group({"seed=S": "seed=1"}, [
        ("drystone simulate examples/news/federation.toml --set seed=S --set data.max_test_examples=1000",
         "--set federation.rounds=1"),
        ("drystone simulate examples/tales/federation.toml", "--set federation.rounds=1"),
        ("drystone simulate examples/shakespeare/federation.toml", "--set federation.rounds=1"),
    ]),
    Group({"M": LANGUAGE_MODEL, "BASE": LANGUAGE_MODEL, "RUN": "runs/tales", "FILE": "adapter.gguf",
           "…": "'a b c'"}, [
        ("drystone generate --model M --adapter RUN/global --prompt …", ""),
        ("drystone export --adapter RUN/global --format gguf --out FILE", ""),
        ("drystone generate --model .data/stories260K --threads 1 --max-new-tokens 401 --json",
         "--prompt ''"),
        ("""zcat mmlu.jsonl.gz | grep '"split": "test"' > test.jsonl""", ""),
        ("drystone evaluate --model BASE --data test.jsonl --task multiple-choice --choices letters", ""),
        ("drystone evaluate --model BASE --data gsm8k/test.jsonl.gz --task exact-match "
         "--template $'Question: {question}\\nAnswer: ' --answer-field answer", "--max-new-tokens 4"),
    ]),
    Group({"M": LANGUAGE_MODEL, "RUN": "language-ensemble"}, [
        ("drystone simulate", "examples/tales/federation.toml --set training.method=lora-ensemble "
         "--set federation.rounds=1 --set output.dir=RUN"),
        ("drystone generate --model M --adapter RUN/global/member-0 --prompt \"Once upon a time\"", ""),
    ]),
]

TESTS_OF_ITS_OWN = "ctest runs these tests"
TESTS = "this test is one of those that it runs"
BUILDS = "builds all programs"
NEEDS_BENCH = "the benchmarks are not built for the tests"
NEEDS_MODEL = "takes minutes and a model that no test may fetch"
NEEDS_PACKAGES = "needs Python packages that the tests do not have"

NOT_RUN = {
    "./dev demo": "builds and fetches; its federation, examples/news/demo.sh, runs here",
    "./dev data tales": "fetches a book from the network",
    "./dev build": BUILDS,
    "./dev test": TESTS,
    "./dev test asan": TESTS,
    "./dev test asan-light -E text/jinja": TESTS,
    "./dev test tsan": TESTS,
    "./dev test tsan -LE text": TESTS,
    "./dev format": "changes the sources",
    "./dev lint --seconds 300": "changes nothing, but takes minutes",
    "./dev lint": "takes minutes",
    "./dev fuzz TARGET SECONDS": "builds with another compiler",
    "./dev fuzz tokenizer": "builds with another compiler",
    "./dev bench": NEEDS_BENCH,
    "cmake --preset dev": BUILDS,
    "cmake --build --preset dev": BUILDS,
    "ctest --preset dev": TESTS,
    "cmake --install": "the test consumer/install does it",
    "cmake -S . -B build -DDRYSTONE_BUILD_BENCH=ON": NEEDS_BENCH,
    "cmake --build build --target tokenizer_timer": NEEDS_BENCH,
    "cmake --preset ci -DDRYSTONE_BUILD_BENCH=ON": NEEDS_BENCH,
    "cmake --build --preset ci --target methods": NEEDS_BENCH,
    "build/bench/aggregation_bench": NEEDS_BENCH,
    "build/bench/run_end FOLDER 256 2": NEEDS_BENCH,
    "build/bench/method_cost linear 9": NEEDS_BENCH,
    "build/bench/step_timer MODEL causal-lm 128,…,128 32000 RANK MODULES 5 none keep side|effective":
        NEEDS_BENCH,
    "build/bench/methods bench/methods/shakespeare.toml bench/methods/news.toml --validation 200 "
    "--out docs/methods-comparison.md": NEEDS_BENCH,
    "build/bench/pair_shock | .venv/bin/python bench/pair_shock.py docs/methods/pair-shock.svg": NEEDS_BENCH,
    "build/bin/drystone_programs_tests --source-file='*/checkpoint_forms_test.cpp'": TESTS_OF_ITS_OWN,
    "build/bin/drystone_models_tests --source-file='*/decoder_cases_test.cpp'": TESTS_OF_ITS_OWN,
    "build/bin/drystone-chaos --seeds 1..10000 --jobs 2": "takes minutes; the test chaos/seeds runs fewer",
    "build/bin/drystone-chaos --replay 1845 --only 1,3": "a test's own option; the test chaos/seeds runs it",
    "tools/mutate.py FOLDER… --build BUILD": "builds for hours, and changes the sources",
    "python3 bench/calibration.py --drystone build/bin/drystone --model MINILM --test 400 --members 3 "
    "--task sst2:sst2_train.jsonl.gz:sst2_dev.jsonl.gz:sentence:label": NEEDS_MODEL,
    "python3 bench/defaults.py --model .data/stories260K --data .data/shakespeare": NEEDS_MODEL,
    "python3 bench/federation_defaults.py --model .data/stories260K --data .data/shakespeare": NEEDS_MODEL,
    "python3 bench/defaults.py --model .data/stories260K --data .data/shakespeare "
    "--only \"lora-rite: damping = 1e-3, warmup = 5\"": NEEDS_MODEL,
    "python3 bench/pruned.py --model .data/stories260K --data .data/shakespeare": NEEDS_MODEL,
    "python3 bench/simulation.py": NEEDS_PACKAGES,
    ".venv/bin/python bench/billion.py": "takes minutes and 3 GB",
    ".venv/bin/python bench/lora_step.py": NEEDS_PACKAGES,
    ".venv/bin/python bench/engine_step.py --ranks 8 --turns 1 --steps 4": NEEDS_PACKAGES,
    "bench/engine_step.py --batches 8 --targets all --ranks 8 --lengths fixed --precision bfloat16 --turns 2 "
    "--steps 3": NEEDS_PACKAGES,
    "bench/engine_step.py --device cuda": "needs a GPU",
    "bench/gpu_check.sh --build build-gpu": "needs a GPU",
    "bench/gpu_check.sh --device cpu --tiny": NEEDS_BENCH,
    "bench/gpu_headers.sh .gpu-headers": "copies files of Debian's packages",
    "bench/gpu_simulation.sh --build build-gpu": "needs a GPU",
    "bench/gpu_simulation.sh --device cpu --tiny": NEEDS_BENCH,
    "bench/gpu_simulation.sh --peak 989": "needs a GPU",
    "build/bench/group_bench tinyllama --rows 8x1x128,8x4x512": NEEDS_BENCH,
    "build/bench/group_bench 15m --dtype float32 --device cpu --ranks 8 --steps 4 --rows …": NEEDS_BENCH,
    ".venv/bin/python bench/step_profile.py --ranks 8": NEEDS_PACKAGES,
    ".venv/bin/python bench/product_forms.py": NEEDS_PACKAGES,
    ".venv/bin/python bench/tokenizer_bench.py build/bench/tokenizer_timer": NEEDS_PACKAGES,
    ".venv/bin/python bench/tokenizer_bench.py build/bench/tokenizer_timer --model MODEL "
    "--texts train.jsonl test.jsonl": NEEDS_PACKAGES,
    ".venv/bin/python tests/oracles/tokenizer_compare.py build/bench/tokenizer_timer": NEEDS_PACKAGES,
}
