#include "core/config.h"

#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using core::Config;
using core::load_config;
using std::chrono::milliseconds;

namespace {

Config load_text(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const test::TemporaryFolder folder;
  return load_config(folder.write("news.toml", text), overrides);
}

constexpr const char* kNews = R"(name = "news"
seed = 7

[model]
path = "models/minilm"
max_length = 96

[data]
train = "data/train.jsonl"
test = "/srv/test.jsonl"
labels = ["sports", "politics"]
partition = "dirichlet"
concentration = 1

[federation]
rounds = 5
cohort = 8
quorum = 6
deadline = "90s"

[training]
rank = 16
alpha = 32
target_modules = ["query", "value"]
[training.options]
beta = 0.5
steps = 3
kind = "soft"
on = true

[[clients]]
count = 2
rank = 64
[[clients]]
count = 9
learning_rate = 1e-3
options = {beta = 1}
[[clients]]
method = "kasa"
options.gamma = 0.1

[aggregation]
rule = "zero-pad"
compaction = {tolerance = 1e-3}

[privacy]
secure_aggregation = "off"

[security]
coordinator = "tcp://127.0.0.1:5570"
identity = "keys/client-3"

[output]
dir = "runs/news"
keep_updates = false
)";

}  // namespace

TEST_CASE("load_config: an empty file gives the defaults") {
  Config expected;
  expected.output.dir = std::filesystem::absolute("runs/latest");
  CHECK(load_text("") == expected);
}

TEST_CASE("load_config: every section arrives in its struct") {
  const Config config = load_text(kNews);
  CHECK(config.name == "news");
  CHECK(config.seed == 7);
  CHECK(config.model.max_length == 96);
  CHECK(config.data.labels == std::vector<std::string>{"sports", "politics"});
  CHECK(config.data.partition == "dirichlet");
  CHECK(config.data.concentration == 1.0);
  CHECK(config.federation.rounds == 5);
  CHECK(config.federation.cohort == 8);
  CHECK(config.federation.quorum == 6);
  CHECK(config.federation.deadline == milliseconds(90'000));
  CHECK(config.training.rank == 16);
  CHECK(config.training.alpha == 32.0);
  CHECK(config.training.target_modules == std::vector<std::string>{"query", "value"});
  CHECK(config.aggregation.rule == "zero-pad");
  CHECK(config.aggregation.compaction == "tolerance");
  CHECK(config.aggregation.tolerance == 1e-3);
  CHECK(config.aggregation.rank == 0);
  CHECK(config.security.coordinator == "tcp://127.0.0.1:5570");
  CHECK_FALSE(config.output.keep_updates);
}

TEST_CASE("load_config: options keep their types") {
  const auto options = load_text(kNews).training.options;
  CHECK(options.size() == 4);
  CHECK(std::get<double>(options.at("beta")) == 0.5);
  CHECK(std::get<std::int64_t>(options.at("steps")) == 3);
  CHECK(std::get<std::string>(options.at("kind")) == "soft");
  CHECK(std::get<bool>(options.at("on")));
}

TEST_CASE("load_config: a [[clients]] entry overrides the defaults, and only what it names") {
  const Config config = load_text(kNews);
  REQUIRE(config.clients.size() == 3);
  CHECK(core::num_clients(config) == 12);
  core::TrainingConfig first = config.training;
  first.rank = 64;
  CHECK(config.clients[0] == core::ClientGroup{2, first});
  core::TrainingConfig second = config.training;
  second.learning_rate = 1e-3;
  second.options["beta"] = std::int64_t{1};
  CHECK(config.clients[1] == core::ClientGroup{9, second});
}

TEST_CASE("load_config: another method does not inherit the options of the default method") {
  const Config config = load_text(kNews);
  CHECK(config.clients[2].training.method == "kasa");
  CHECK(config.clients[2].training.options == core::Options{{"gamma", 0.1}});
}

TEST_CASE("load_config: paths are absolute, from the file's folder unless --set gives them") {
  const test::TemporaryFolder folder;
  const Config config =
      load_config(folder.write("news.toml", kNews), {"data.train=here/../train.jsonl"});
  CHECK(config.model.path == folder.path() / "models/minilm");
  CHECK(config.data.train == std::filesystem::current_path() / "train.jsonl");
  CHECK(config.data.test == "/srv/test.jsonl");
  CHECK(config.security.identity == folder.path() / "keys/client-3");
  CHECK(config.security.allow.empty());
  CHECK(config.output.dir == folder.path() / "runs/news");
}

TEST_CASE("load_config: sizes") {
  const auto limit = [](const std::string& value) {
    return load_text("[training]\nmemory_limit = " + value).training.memory_limit;
  };
  CHECK(limit("\"3GB\"") == 3'000'000'000);
  CHECK(limit("\"1.5GiB\"") == 1'610'612'736);
  CHECK(limit("\"800 MB\"") == 800'000'000);
  CHECK(limit("4096") == 4096);
  for (const char* bad : {R"("much")", R"("3 apples")", "-1", R"("1.2.3GB")", R"("GB")", "true"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(limit(bad), core::ConfigError);
  }
}

TEST_CASE("load_config: durations") {
  const auto deadline = [](const std::string& text) {
    return load_text("[federation]\ndeadline = \"" + text + "\"").federation.deadline;
  };
  CHECK(deadline("10min") == milliseconds(600'000));
  CHECK(deadline("30s") == milliseconds(30'000));
  CHECK(deadline("500ms") == milliseconds(500));
  CHECK(deadline("2h") == milliseconds(7'200'000));
  CHECK(deadline("1.5h") == milliseconds(5'400'000));
}

TEST_CASE("load_config: compaction is a word or a bound") {
  const auto compaction = [](const std::string& value) {
    return load_text("[aggregation]\ncompaction = " + value).aggregation;
  };
  CHECK(compaction("\"none\"").compaction == "none");
  CHECK(compaction("\"lossless\"").compaction == "lossless");
  CHECK(compaction("{rank = 32}").compaction == "rank");
  CHECK(compaction("{rank = 32}").rank == 32);
  CHECK(compaction("{rank = 32}").tolerance == 0.0);
  CHECK(compaction("{tolerance = 0.01}").tolerance == 0.01);
}

TEST_CASE("load_config: target_modules is a list or all-linear") {
  const auto modules = [](const std::string& value) {
    return load_text("[training]\ntarget_modules = " + value).training.target_modules;
  };
  CHECK(modules("\"all-linear\"") == std::vector<std::string>{"all-linear"});
  CHECK(modules("[\"all-linear\"]") == std::vector<std::string>{"all-linear"});
  CHECK(modules("[\"q\", \"v\"]") == std::vector<std::string>{"q", "v"});
}

TEST_CASE("--set: reads TOML values, falls back to strings, reaches everywhere") {
  const Config config =
      load_text(kNews, {"training.rank=4", "name=2027-01-01", "training.learning_rate=1e-2",
                        "training.target_modules=[\"key\"]", "training.schedule=cosine",
                        "federation.deadline=5min", "clients.0.rank=32", "clients.1.count=20",
                        "training.options.beta=0.25", "aggregation.compaction={rank = 8}",
                        "output.keep_updates=true", "simulation.workers=2", "data.text_field=a=b"});
  CHECK(config.training.rank == 4);
  CHECK(config.name == "2027-01-01");
  CHECK(config.training.learning_rate == 1e-2);
  CHECK(config.training.target_modules == std::vector<std::string>{"key"});
  CHECK(config.training.schedule == "cosine");
  CHECK(config.federation.deadline == milliseconds(300'000));
  CHECK(config.clients[0].training.rank == 32);
  CHECK(config.clients[1].count == 20);
  CHECK(std::get<double>(config.training.options.at("beta")) == 0.25);
  CHECK(config.aggregation.rank == 8);
  CHECK(config.output.keep_updates);
  CHECK(config.simulation.workers == 2);
  CHECK(config.data.text_field == "a=b");
}

TEST_CASE("--set: a string needs no quotes, whatever it looks like") {
  CHECK(load_text("", {"name=7"}).name == "7");
  CHECK(load_text("", {"name=true"}).name == "true");
  CHECK(load_text("", {"name=\"quoted\""}).name == "quoted");
  CHECK(load_text("", {"name=x\nseed = 9"}).seed == 0);
}

TEST_CASE("--set: the last of two wins") { CHECK(load_text("", {"seed=1", "seed=2"}).seed == 2); }

TEST_CASE("config_error: later checks can say where a key was written") {
  const Config config = load_text(kNews, {"training.method=loar"});
  const auto text = [&](const std::string& key) {
    return std::string(core::config_error(config, key, "is wrong; mend it").what());
  };
  CHECK(text("model.path").ends_with("news.toml:5: model.path: is wrong; mend it"));
  CHECK(text("clients.2.method").ends_with("news.toml:39: clients.2.method: is wrong; mend it"));
  CHECK(text("training.method") == "--set training.method: is wrong; mend it");
  CHECK(text("model.dtype").ends_with("news.toml:4: model.dtype: is wrong; mend it"));
  CHECK(text("simulation.workers").ends_with("news.toml: simulation.workers: is wrong; mend it"));
}

TEST_CASE("semantic_text: paths, addresses and the machine do not matter") {
  const Config config = load_text(kNews);
  Config deployed = config;
  deployed.source = "elsewhere.toml";
  deployed.model.path = "/srv/model";
  deployed.data.train = "/mine/train.csv";
  deployed.data.test.clear();
  deployed.data.text_field = "body";
  deployed.federation.deadline = milliseconds(1);
  deployed.security = {};
  deployed.simulation.workers = 3;
  deployed.output = {};
  CHECK(core::semantic_text(deployed) == core::semantic_text(config));
}

TEST_CASE("semantic_text: rounds that were raised leave those that it was begun with") {
  Config raised = load_text(kNews);
  const std::string before = core::semantic_text(raised);
  raised.federation.begun_rounds = raised.federation.rounds;
  raised.federation.rounds += 3;
  CHECK(core::semantic_text(raised) == before);
  raised.federation.begun_rounds = 0;
  CHECK(core::semantic_text(raised) != before);
}

TEST_CASE("semantic_text: everything that changes the result changes the text") {
  const Config config = load_text(kNews);
  const auto differs = [&](auto change) {
    Config other = config;
    change(other);
    return core::semantic_text(other) != core::semantic_text(config);
  };
  CHECK(differs([](Config& c) { c.name = "x"; }));
  CHECK(differs([](Config& c) { c.seed = 8; }));
  CHECK(differs([](Config& c) { c.model.max_length = 97; }));
  CHECK(differs([](Config& c) { c.model.sha256 = std::string(64, 'a'); }));
  CHECK(differs([](Config& c) { std::swap(c.data.labels[0], c.data.labels[1]); }));
  CHECK(differs([](Config& c) { c.data.concentration = 0.9; }));
  CHECK(differs([](Config& c) { c.data.max_test_examples = 5; }));
  CHECK(differs([](Config& c) { c.data.prompt_template = "alpaca"; }));
  CHECK(differs([](Config& c) { c.data.loss_on = "all"; }));
  CHECK(differs([](Config& c) { c.data.packing = true; }));
  CHECK(differs([](Config& c) { c.federation.quorum = 5; }));
  CHECK(differs([](Config& c) { c.training.options["beta"] = 0.75; }));
  CHECK(differs([](Config& c) { c.clients[1].training.rank = 4; }));
  CHECK(differs([](Config& c) { std::swap(c.clients[0], c.clients[1]); }));
  CHECK(differs([](Config& c) { c.aggregation.tolerance = 1e-4; }));
  CHECK(differs([](Config& c) { c.aggregation.rule = "flora"; }));
}

TEST_CASE("semantic_text: how the groups are cut up does not matter") {
  const Config whole = load_text("[[clients]]\ncount = 3\nrank = 4");
  const Config cut = load_text("[[clients]]\nrank = 4\n[[clients]]\ncount = 2\nrank = 4");
  CHECK(core::semantic_text(whole) == core::semantic_text(cut));
}

TEST_CASE("semantic_text: a fixed text, so that hashes of old runs stay valid") {
  CHECK(
      core::semantic_text(load_text("seed = 3\n[federation]\nquorum = 0\n[[clients]]\nrank = 2")) ==
      R"(drystone configuration 1
aggregation.compaction = "lossless"
aggregation.robust = "none"
aggregation.rule = "flora"
aggregation.start = "fresh"
aggregation.weights = "examples"
clients.0.alpha = 16.0
clients.0.batch_size = 16
clients.0.checkpointing = false
clients.0.count = 1
clients.0.dropout = 0.0
clients.0.epochs = 1
clients.0.gradient_accumulation = 1
clients.0.learning_rate = 5e-04
clients.0.max_grad_norm = 0.0
clients.0.max_steps = 0
clients.0.method = "lora"
clients.0.rank = 2
clients.0.schedule = "linear"
clients.0.target_modules = "all-linear"
clients.0.threads = 1
clients.0.warmup = 0.06
clients.0.weight_decay = 0.0
data.concentration = 0.5
data.labels = []
data.loss_on = "answer"
data.max_test_examples = 0
data.packing = false
data.partition = "iid"
data.partition_key = ""
data.shards_per_client = 2
data.template = "auto"
federation.cohort = 0
federation.mode = "sync"
federation.quorum = 0
federation.rounds = 3
model.dtype = "float32"
model.max_length = 128
model.quantization = "none"
model.sha256 = ""
model.task = "classification"
name = "federation"
seed = 3
training.alpha = 16.0
training.batch_size = 16
training.checkpointing = false
training.dropout = 0.0
training.epochs = 1
training.gradient_accumulation = 1
training.learning_rate = 5e-04
training.max_grad_norm = 0.0
training.max_steps = 0
training.method = "lora"
training.rank = 8
training.schedule = "linear"
training.target_modules = "all-linear"
training.threads = 1
training.warmup = 0.06
training.weight_decay = 0.0
)");
}
