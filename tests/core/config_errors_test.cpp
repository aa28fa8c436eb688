// Every error names the place, the key and a remedy.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "core/config.h"
#include "core/error.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

struct Mistake {
  std::string text;
  std::string expected;  ///< the whole message after the folder
};

std::string message_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const test::TemporaryFolder folder;
  const auto file = folder.write("bad.toml", text);
  try {
    core::load_config(file, overrides);
  } catch (const core::ConfigError& error) {
    const std::string message = error.what();
    const std::string prefix = folder.path().string() + "/";
    return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
  }
  return "accepted";
}

void check(const std::vector<Mistake>& mistakes) {
  for (const auto& [text, expected] : mistakes) {
    CAPTURE(text);
    const std::string message = message_of(text);
    CHECK(message == expected);
    CHECK(message.find('\n') == std::string::npos);
  }
}

}  // namespace

TEST_CASE("configuration: every number is taken at its ends and refused beyond them") {
  struct Ends {
    std::string key;
    std::vector<std::string> taken;
    std::vector<std::string> refused;
  };
  const std::vector<std::string> beyond = {"-1", "1000000001", "0.5", "\"1\"", "true"};
  const std::vector<Ends> numbers = {
      {"seed", {"0", "9223372036854775807"}, {"-1"}},
      {"model.max_length", {"3", "1000000"}, {"2", "1000001"}},
      {"data.concentration", {"5e-324", "3e38"}, {"0", "-1", "1e300", "nan", "inf"}},
      {"data.shards_per_client", {"1", "1000000000"}, {"0", "-1"}},
      {"data.max_test_examples", {"0", "1000000000"}, beyond},
      {"federation.rounds", {"1", "1000000000"}, {"0", "-1"}},
      {"federation.cohort", {"0", "1000000000"}, beyond},
      {"federation.begun_rounds", {"0", "1000000000"}, beyond},
      {"federation.quorum", {"0", "\"half\""}, {"-1", "1000000001", "\"most\""}},
      {"federation.attempts", {"1", "1000000000"}, {"0", "-1"}},
      {"training.rank", {"1", "65536"}, {"0", "65537"}},
      {"training.alpha", {"5e-324", "3e38"}, {"0", "-1", "1e300", "nan", "inf"}},
      {"training.epochs", {"1", "1000000000"}, {"0", "-1"}},
      {"training.max_steps", {"0", "1000000000"}, beyond},
      {"training.batch_size", {"1", "1000000"}, {"0", "1000001"}},
      {"training.gradient_accumulation", {"1", "1000000"}, {"0", "1000001"}},
      {"training.max_grad_norm", {"0", "3e38"}, {"-1", "nan"}},
      {"training.learning_rate", {"5e-324", "3e38"}, {"0", "-1e-3", "1e300", "nan", "inf"}},
      {"training.warmup", {"0", "1"}, {"-0.1", "1.1", "nan"}},
      {"training.weight_decay", {"0", "3e38"}, {"-1", "1e300", "inf"}},
      {"training.dropout", {"0", "0.999"}, {"1", "-0.1"}},
      {"training.threads", {"1", "1024"}, {"0", "1025"}},
      {"clients.0.count", {"1", "1000000"}, {"0", "1000001"}},
      {"aggregation.max_norm", {"0", "1e300"}, {"-1", "nan", "inf"}},
      {"federation.over_selection", {"1", "1.3", "100"}, {"0.9", "101", "nan"}},
      {"simulation.workers", {"0", "4096"}, {"-1", "4097"}},
      {"simulation.group", {"1", "1024", "\"auto\""}, {"0", "1025", "\"all\"", "1.5"}},
  };
  const std::string clients = "[[clients]]\nrank = 4\n";
  for (const auto& [key, taken, refused] : numbers) {
    for (const std::string& value : taken) {
      const std::string setting = std::string(key).append("=").append(value);
      CAPTURE(setting);
      const std::string message = message_of(clients, {setting});
      // What other keys say of it (a quorum above the cohort) is their business.
      CHECK((message == "accepted" || message.find("must be") == std::string::npos));
    }
    for (const std::string& value : refused) {
      const std::string setting = std::string(key).append("=").append(value);
      CAPTURE(setting);
      CHECK(message_of(clients, {setting}).find(key) != std::string::npos);
    }
  }
}

TEST_CASE("configuration: unknown keys name the nearest known key, at any level") {
  check({
      {"nmae = \"x\"", R"(bad.toml:1: nmae: unknown key; did you mean "name"?)"},
      {"[client.0]\nrank = 8",
       R"(bad.toml:1: client.0: unknown key; did you mean "clients.0", an entry of [[clients]]?)"},
      {"[trainng]\nrank = 8", "bad.toml:1: trainng: unknown key; did you mean [training]?"},
      {"\n[training.option]\nbeta = 8",
       "bad.toml:2: training.option: unknown key; did you mean [training.options]?"},
      {"[[clints]]\nrank = 8", "bad.toml:1: clints: unknown key; did you mean [[clients]]?"},
      {"[[Client]]\nrank = 8", "bad.toml:1: Client: unknown key; did you mean [[clients]]?"},
      {"\n[[client]]\nrank = 8\n[[client]]\nrank = 4",
       "bad.toml:2: client: must be a section, not an array; did you mean [[clients]]?"},
      {"[[training]]\nrank = 8",
       "bad.toml:1: training: must be a section, not an array; write [training] on a line of its "
       "own and its keys below"},
      {"[training]\nrnak = 8", R"(bad.toml:2: training.rnak: unknown key; did you mean "rank"?)"},
      {"[[clients]]\ncount = 1\n[[clients]]\nranks = 8",
       R"(bad.toml:4: clients.1.ranks: unknown key; did you mean "rank"?)"},
      {"[privacy]\nsecure_agregation = \"off\"",
       R"(bad.toml:2: privacy.secure_agregation: unknown key; did you mean "secure_aggregation"?)"},
      {"[aggregation]\ncompaction = {tolerence = 0.1}",
       R"(bad.toml:2: aggregation.compaction.tolerence: unknown key; did you mean "tolerance"?)"},
      {"[federation]\nseed = 7",
       R"(bad.toml:2: federation.seed: unknown key; "seed" belongs in the top of the file, before )"
       R"(the first [section])"},
      {"[model]\nrounds = 7",
       R"(bad.toml:2: model.rounds: unknown key; "rounds" belongs in [federation])"},
      {"rank = 7", R"(bad.toml:1: rank: unknown key; "rank" belongs in [training])"},
      {"[client]\nrank = 4",
       R"(bad.toml:2: client.rank: unknown key; "rank" belongs in [training], or for some of the )"
       R"(clients in [[clients]])"},
      {"[[clients]]\nname = \"a\"",
       "bad.toml:2: clients.0.name: unknown key; clients have no names here: they are client-1, "
       "client-2, … in the order of the entries; remove it"},
      {"[aggregation]\ncompaction = \"rank64\"",
       R"(bad.toml:2: aggregation.compaction: "rank64" is not supported; supported: none, )"
       "lossless, {rank = 64}, {tolerance = 0.01}"},
      {"[output]\nfolder = 1",
       R"(bad.toml:2: output.folder: unknown key; the nearest is "dir"; [output] takes dir, )"
       R"(keep_updates)"},
  });
}

TEST_CASE("configuration: of several unknown keys the first in the file is reported") {
  CHECK(
      message_of("[training]\nzzz = 1\n[model]\naaa = 1").starts_with("bad.toml:2: training.zzz"));
}

TEST_CASE("configuration: an unknown key in [training] hints at the method's options") {
  const std::string message = message_of("[training]\northogonality = 0.1");
  CHECK(message.find("options of a method go into [training.options]") != std::string::npos);
}

TEST_CASE("configuration: wrong types") {
  check({
      {"seed = \"7\"",
       R"(bad.toml:1: seed: must be a whole number, not the string "7"; write e.g. seed = 0)"},
      {"[training]\n\nrank = 8.0",
       "bad.toml:3: training.rank: must be a whole number, not the number 8.0; write e.g. rank = "
       "8"},
      {"[training]\nlearning_rate = \"5e-4\"",
       R"(bad.toml:2: training.learning_rate: must be a number, not the string "5e-4"; write e.g. )"
       R"(learning_rate = 5e-04)"},
      {"name = 7", R"(bad.toml:1: name: must be a string, not the integer 7; write e.g. name = )"
                   R"("federation")"},
      {"[output]\nkeep_updates = 1",
       "bad.toml:2: output.keep_updates: must be true or false, not the integer 1; write e.g. "
       "keep_updates = true"},
      {"[federation]\ndeadline = 600",
       R"(bad.toml:2: federation.deadline: must be a string, not the integer 600; write e.g. )"
       R"(deadline = "10min")"},
      {"training = 8",
       "bad.toml:1: training: must be a section, not the integer 8; write [training] on a line of "
       "its own and its keys below"},
      {"[clients]\nrank = 8",
       "bad.toml:1: clients: must be a list of tables, not a table; write [[clients]] above the "
       "keys of each entry"},
      {"[data]\nlabels = \"a\"",
       R"(bad.toml:2: data.labels: must be an array of strings, not the string "a"; write e.g. )"
       R"(labels = ["a", "b"])"},
      {"[data]\nlabels = [1]",
       R"(bad.toml:2: data.labels: holds the integer 1; every item must be a non-empty string, )"
       R"(e.g. labels = ["a", "b"])"},
      {"[data]\nlabels = [\"a\", \"a\"]",
       R"(bad.toml:2: data.labels: names "a" twice; remove one of them)"},
      {"[training]\noptions = 1",
       "bad.toml:2: training.options: must be a table of the method's options, not the integer 1; "
       "write e.g. options = {beta = 0.1}"},
      {"[training.options]\nbeta = [1]",
       "bad.toml:2: training.options.beta: must be a number, a string, true or false, not an "
       "array; "
       "see the method's options in docs/configuration.md"},
  });
}

TEST_CASE("configuration: values out of range") {
  check({
      {"seed = -1", "bad.toml:1: seed: must be >= 0, not -1; write e.g. seed = 0"},
      {"[training]\nrank = 0",
       "bad.toml:2: training.rank: must be from 1 to 65536, not 0; write e.g. rank = 8"},
      {"[[clients]]\nrank = 4\n[[clients]]\nrank = -4",
       "bad.toml:4: clients.1.rank: must be from 1 to 65536, not -4; write e.g. rank = 8"},
      {"[training]\nalpha = inf",
       "bad.toml:2: training.alpha: must be > 0.0, not inf; write e.g. alpha = 16.0"},
      {"[training]\nalpha = nan",
       "bad.toml:2: training.alpha: must be > 0.0, not nan; write e.g. alpha = 16.0"},
      {"[training]\nlearning_rate = 0",
       "bad.toml:2: training.learning_rate: must be > 0.0, not 0.0; write e.g. learning_rate = "
       "5e-04"},
      {"[training]\ndropout = 1.0",
       "bad.toml:2: training.dropout: must be >= 0.0 and < 1.0, not 1.0; write e.g. dropout = 0.0"},
      {"[training]\nwarmup = 2",
       "bad.toml:2: training.warmup: must be >= 0.0 and <= 1.0, not 2.0; write e.g. warmup = 0.06"},
      {"[training]\nbatch_size = 0",
       "bad.toml:2: training.batch_size: must be from 1 to 1000000, not 0; write e.g. batch_size = "
       "16"},
      {"[training]\nweight_decay = -0.1",
       "bad.toml:2: training.weight_decay: must be >= 0.0, not -0.1; write e.g. weight_decay = "
       "0.0"},
      {"[federation]\nrounds = 0",
       "bad.toml:2: federation.rounds: must be from 1 to 1000000000, not 0; write e.g. rounds = 3"},
      {"[model]\nmax_length = 2",
       "bad.toml:2: model.max_length: must be from 3 to 1000000, not 2; write e.g. max_length = "
       "128"},
      {"[data]\nconcentration = 0.0",
       "bad.toml:2: data.concentration: must be > 0.0, not 0.0; write e.g. concentration = 0.5"},
      {"[federation]\ndeadline = \"10 minutes\"",
       R"(bad.toml:2: federation.deadline: "10 minutes" is not a duration; write a positive )"
       R"(number with the unit ms, s, min or h, up to 8760h, e.g. deadline = "10min")"},
      {"[aggregation]\ncompaction = {tolerance = 1.5}",
       "bad.toml:2: aggregation.compaction.tolerance: must be > 0.0 and < 1.0, not 1.5; write e.g. "
       "tolerance = 0.001"},
      {"[aggregation]\ncompaction = {tolerance = 0.1, rank = 4}",
       "bad.toml:2: aggregation.compaction: takes one bound; write {tolerance = 1e-3} or {rank = "
       "64}"},
      {"[model]\nsha256 = \"abc\"",
       R"(bad.toml:2: model.sha256: must be 64 lower-case hexadecimal digits, not "abc"; in )"
       R"(model.path `cat config.json *.safetensors | sha256sum` prints it; or remove the key)"},
      {"[model]\npath = \"\"",
       "bad.toml:2: model.path: is an empty path; write a path or remove the key"},
      {"[security]\ncoordinator = \"host:5570\"",
       R"(bad.toml:2: security.coordinator: "host:5570" is not an address; write e.g. )"
       R"("tcp://host:5570")"},
      {"[training]\ntarget_modules = []",
       R"(bad.toml:2: training.target_modules: names no module; write ["query", "value"] or )"
       R"("all-linear")"},
      {"[training]\ntarget_modules = \"query\"",
       R"(bad.toml:2: training.target_modules: "query" alone is not understood; write ["query", )"
       R"("value"] or "all-linear")"},
  });
}

TEST_CASE("configuration: numbers beyond 64 bits name their key and its bound") {
  const std::string huge = "10000000000000000000";
  CHECK(message_of("[federation]\nrounds = " + huge) ==
        "bad.toml:2: rounds: must be at most 9223372036854775807; write a smaller number");
  CHECK(message_of("", {"federation.rounds=" + huge}) ==
        "--set federation.rounds: must be from 1 to 1000000000, not " + huge +
            "; write e.g. rounds = 3");
  CHECK(message_of("", {"federation.grace=99999999999h"}).find("up to 8760h") != std::string::npos);
  CHECK(message_of("", {"training.memory_limit=9999999TB"}).find("up to 1000000GB") !=
        std::string::npos);
}

TEST_CASE("configuration: odd durations are refused") {
  for (const std::string text : {"", "10", "min", "0s", "-5s", "1.2.3s", ".s", "9999999999999999h",
                                 "10 min", "1e3s", "0.1ms", "5S"}) {
    CAPTURE(text);
    CHECK(message_of("[federation]\ndeadline = \"" + text + "\"").find("is not a duration") !=
          std::string::npos);
  }
}

TEST_CASE("configuration: odd addresses are refused") {
  for (const std::string text : {"tcp://", "tcp://host", "tcp://:5570", "tcp://host:", "udp://h:1",
                                 "tcp://host:99999", "tcp://host:55a", "tcp://host:123456"}) {
    CAPTURE(text);
    CHECK(message_of("[security]\ncoordinator = \"" + text + "\"").find("is not an address") !=
          std::string::npos);
  }
}

TEST_CASE("configuration: what this version does not have is refused with what works") {
  check({
      {"[model]\ntask = \"causal_lm\"",
       R"(bad.toml:2: model.task: "causal_lm" is not supported; did you mean "causal-lm"? )"
       R"(supported: classification, regression, causal-lm)"},
      {"[model]\nquantization = \"fp4\"",
       R"(bad.toml:2: model.quantization: "fp4" is not supported; supported: none, nf4, int8)"},
      {"[federation]\nmode = \"async\"",
       R"(bad.toml:2: federation.mode: "async" is not supported; supported: sync)"},
      {"[aggregation]\nrobust = \"krum\"",
       R"(bad.toml:2: aggregation.robust: "krum" is not supported; supported: none)"},
      {"[data]\npartition = \"by_key\"",
       R"(bad.toml:2: data.partition: "by_key" is not supported; did you mean "by-key"? )"
       R"(supported: iid, dirichlet, shards, by-key, by-file)"},
      {"[privacy]\ndifferential_privacy = \"client\"",
       R"(bad.toml:2: privacy.differential_privacy: "client" is not supported; supported: off)"},
      {"[privacy]\nclip = 1.0",
       "bad.toml:2: privacy.clip: is for differential privacy, which this version does not have; "
       "remove it"},
      {"[data]\ntemplate = \"alpacca\"",
       R"(bad.toml:2: data.template: "alpacca" is not supported; did you mean "alpaca"? )"
       R"(supported: auto, alpaca, dolly, plain, chat)"},
      {"[data]\nloss_on = \"answers\"",
       R"(bad.toml:2: data.loss_on: "answers" is not supported; did you mean "answer"? )"
       R"(supported: answer, all)"},
      {"[federation]\nbuffer = 10",
       R"(bad.toml:2: federation.buffer: is for mode = "async", which this version does not have; )"
       R"(remove it)"},
  });
}

TEST_CASE("configuration: an own template and the answer's field need each other") {
  CHECK(message_of("[data]\ntemplate = \"Q: {q}\\nA: \"") ==
        "bad.toml:2: data.template: needs the field of the answer that follows it; add e.g. "
        "answer_field = \"answer\"");
  CHECK(message_of("[data]\nanswer_field = \"a\"") ==
        "bad.toml:2: data.answer_field: is for an own template with {fields}; add one, or remove "
        "it");
  CHECK(message_of("[data]\npacking = true") ==
        "bad.toml:2: data.packing: is for model.task = \"causal-lm\"; remove it");
}

TEST_CASE("configuration: settings that contradict each other") {
  check({
      {"[federation]\ncohort = 5\n[[clients]]\ncount = 4",
       "bad.toml:2: federation.cohort: asks 5 clients a round, but [[clients]] describes only 4; "
       "lower it, or raise a count"},
      {"[federation]\nquorum = 3\ncohort = 2",
       "bad.toml:2: federation.quorum: needs 3 updates, but only 2 clients are asked a round; set "
       "it to 2 or less"},
      {"[federation]\nquorum = 3\n[[clients]]\ncount = 2",
       "bad.toml:2: federation.quorum: needs 3 updates, but only 2 clients are asked a round; set "
       "it to 2 or less"},
      {"[data]\npartition = \"by-key\"",
       R"(bad.toml:2: data.partition: "by-key" needs the field that names the client; add e.g. )"
       R"(partition_key = "author")"},
  });
}

TEST_CASE("configuration: what is not TOML") {
  CHECK(message_of("[model\npath = 1").starts_with("bad.toml:1: this is not TOML: "));
  CHECK(message_of("seed = 1\nseed = 2").starts_with("bad.toml:2: this is not TOML: "));
  CHECK(message_of("a = \"\xff\"").starts_with("bad.toml:1: this is not TOML: "));
}

TEST_CASE("configuration: what nests without end is one line") {
  std::string key = "a";
  for (int i = 0; i < 1'000'000; ++i) key += ".a";
  const std::string problem = ": nested deeper than 64 levels; correct this line";
  CHECK(message_of("seed = 1\n" + key + " = 1") == "bad.toml:2" + problem);
  CHECK(message_of("# [\n[" + key + "]") == "bad.toml:2" + problem);
  CHECK(message_of("x = {y = 1, " + key + " = 1}") == "bad.toml:1" + problem);
  CHECK(message_of("x = " + std::string(1'000'000, '[')) == "bad.toml:1" + problem);
  CHECK(message_of("", {key + "=1"}).size() < 300);
  CHECK(message_of("", {"name=" + std::string(100'000, '[')}).size() < 300);
  // Dots and brackets in strings and comments are none.
  const std::string dots(1000, '.');
  const std::string brackets(1000, '[');
  for (const std::string& text : {dots, brackets, "\\\"" + dots}) {
    CAPTURE(text);
    std::string content = "name = \"";
    content.append(text).append("\"  # ").append(text).append("\n[[clients]]");
    CHECK(message_of(content) == "accepted");
  }
  CHECK(message_of("name = '''\n'" + dots + "\n''" + dots + "'''\n[[clients]]") !=
        "bad.toml:1" + problem);
}

TEST_CASE("configuration: a file that is not there") {
  CHECK_THROWS_WITH_AS(
      core::load_config("/no/such.toml"),
      "/no/such.toml: cannot be opened: No such file or directory; check the path, and "
      "that its folder exists",
      core::ConfigError);
  CHECK_THROWS_WITH_AS(core::load_config("/"), doctest::Contains("is not a regular file"),
                       core::ConfigError);
}

TEST_CASE("configuration: errors in --set name the override") {
  const auto with = [](const std::string& override) {
    return message_of("[training]\nrank = 8\n[[clients]]", {override});
  };
  CHECK(with("training.rank=0") ==
        "--set training.rank: must be from 1 to 65536, not 0; write e.g. rank = 8");
  CHECK(with("training.rank=x") ==
        "--set training.rank: must be a whole number, not the string "
        "\"x\"; write e.g. rank = 8");
  CHECK(with("training.rnak=8") == "--set training.rnak: unknown key; did you mean \"rank\"?");
  CHECK(with("trainig.rank=8") == "--set trainig: unknown key; did you mean \"training\"?");
  CHECK(with("clients.1.rank=8") ==
        "--set clients.1.rank: there is no entry 1 among 1; count from 0");
  CHECK(with("clients.0.rank=0") ==
        "--set clients.0.rank: must be from 1 to 65536, not 0; write e.g. rank = 8");
  CHECK(with("training.options={a=[1]}").starts_with("--set training.options.a: must be"));
  CHECK(with("training.rank") ==
        "--set training.rank: is not key=value; write e.g. --set training.rank=16");
  CHECK(with("=8") == "--set =8: is not key=value; write e.g. --set training.rank=16");
  CHECK(with("a..b=8") == "--set a..b=8: is not key=value; write e.g. --set training.rank=16");
  CHECK(with("training.rank.x=8").starts_with("--set training.rank.x: does not lead to a key"));
  CHECK(with("training.rank.x.y=8").starts_with("--set training.rank.x.y: \"x\" leads nowhere"));
  CHECK(with("aggregation.weights=even") ==
        "--set aggregation.weights: \"even\" is not supported; supported: examples, uniform");
}
