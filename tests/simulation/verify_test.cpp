// What `drystone inspect --verify` finds, and what it says that it cannot.

#include "cli/verify.h"

#include <algorithm>
#include <fstream>

#include <doctest/doctest.h>

#include "cli/commands.h"
#include "cli/inspection.h"
#include "coordinator/global_keeper.h"
#include "coordinator/run_folder.h"
#include "coordinator/run_index.h"
#include "core/error.h"
#include "core/files.h"
#include "core/seed.h"
#include "simulation/simulator.h"
#include "tests/coordinator/harness.h"
#include "tests/simulation/tiny_federation.h"
#include "wire/durable_file.h"

using namespace drystone;
using namespace drystone::test;

namespace {

std::string content(const fs::path& file) { return core::read_text_file(file, 1 << 30); }

// Not in place: the blob store shares the inode.
void replace(const fs::path& file, const std::string& bytes) {
  core::write_file_atomic(file, core::as_bytes(bytes));
}

std::string first_wrong(const cli::Verification& verification) {
  for (const auto& check : verification.versions) {
    if (check.wrong) return "version " + std::to_string(check.version) + ": " + *check.wrong;
  }
  for (const auto& check : verification.parts) {
    if (check.wrong) return check.part + ": " + *check.wrong;
  }
  return verification.versions.empty() ? "no versions" : "";
}

bool is_listed(const cli::Verification& verification, const std::string& file) {
  return std::ranges::any_of(verification.not_covered, [&](const std::string& entry) {
    return entry == file || entry.starts_with(file + ": ");
  });
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

/// Flips bits of every file, one at a time. @return the files that verify listed and did not check
std::set<std::string> flip_everything(const fs::path& folder,
                                      cli::Verification (*verify)(const fs::path&)) {
  REQUIRE(first_wrong(verify(folder)) == "");
  std::set<std::string> listed;
  core::SplitMix64 random({1, 0, "", "bits"});
  for (const fs::path& file : files_in(folder)) {
    const std::string name = file.lexically_relative(folder).generic_string();
    const std::string bytes = content(file);
    for (int i = 0; i < 3 && !bytes.empty(); ++i) {
      const auto bit = random.below(8 * bytes.size());
      CAPTURE(name);
      CAPTURE(bit);
      std::string flipped = bytes;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
      replace(file, flipped);
      try {
        const cli::Verification verification = verify(folder);
        if (first_wrong(verification).empty()) {
          CHECK(is_listed(verification, name));
          listed.insert(name);
        }
      } catch (const core::Error&) {  // found so early that nothing else could be looked into
      }
    }
    replace(file, bytes);
  }
  CHECK(first_wrong(verify(folder)) == "");
  return listed;
}

/// One round of scripted clients, and the folders that it leaves.
class Scripted {
 public:
  Scripted() : federation(dir_.path(), 2, 2, /*evaluator=*/true) {
    write("model/config.json", "{}");
    write("federation.toml",
          "name = \"scripted\"\n[model]\npath = \"model\"\n[data]\ntrain = \"t.jsonl\"\n"
          "[federation]\nrounds = 2\n[[clients]]\ncount = 2\n");
    const std::string sha256 = federation.config().model.sha256;
    federation.config() = core::load_config(dir_.path() / "federation.toml");
    federation.config().model.sha256 = sha256;
  }

  void start() {
    federation.start();
    for (const char* client : {"client-1", "client-2"}) federation.hello(client);
  }
  void turn(const std::string& client) {
    const auto task = federation.next<wire::Task>(client);
    REQUIRE(task.has_value());
    CHECK(federation.take_part(client, *task, 2, 0.25)->accepted);
    federation.settle();
  }
  void write_run() {
    coordinator::write_run_folder(
        {.dir = run(), .config = federation.config(), .layout = small_layout()},
        federation.coordinator());
    fs::create_directories(dir_.path() / "sum");
    coordinator::GlobalKeeper({.run_dir = run(),
                               .state_dir = dir_.path() / "sum",
                               .settings = {.config = federation.config(),
                                            .base_model = federation.config().model.path.string()}},
                              federation.coordinator())
        .finish();
  }
  fs::path run() const { return dir_.path() / "run"; }
  fs::path state() const { return dir_.path() / "state"; }

 private:
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((dir_.path() / name).parent_path());
    std::ofstream(dir_.path() / name) << text;
  }
  TemporaryFolder dir_;

 public:
  Federation federation;
};

void simulate_tiny(const TinyFederation& tiny, const std::vector<std::string>& overrides = {}) {
  simulation::simulate(tiny.config(overrides), {.run_dir = tiny.path() / "run", .device = "cpu"});
}

/// What verify says of a run while one of its files or folders is away.
std::string wrong_without(const fs::path& run, const fs::path& name) {
  const fs::path away = run.parent_path() / "away";
  fs::rename(run / name, away);
  const std::string wrong = first_wrong(cli::verify_run(run));
  fs::rename(away, run / name);
  return wrong;
}

fs::path blob_of(const fs::path& payload) {
  return fs::path("state") / "blobs" / core::to_hex(wire::hash_file(payload));
}

int inspect_command(const std::string& path, const std::vector<const char*>& options = {}) {
  std::vector<const char*> words = {"inspect", path.c_str()};
  words.insert(words.end(), options.begin(), options.end());
  core::CommandLine line("", "inspect");
  const cli::Command command = cli::add_inspect(line);
  line.parse(static_cast<int>(words.size()), words.data());
  return command({}, {});
}

}  // namespace

TEST_CASE("verify: a client that left the roster and a key that was renewed stay what they were") {
  Scripted scripted;
  scripted.start();
  scripted.turn("client-1");
  scripted.federation.crash();
  scripted.federation.renew_key("client-1");  // in the middle of the round that holds its update
  scripted.start();
  scripted.turn("client-2");
  scripted.federation.crash();
  scripted.federation.take_out("client-2");  // between two rounds
  scripted.federation.start();
  scripted.federation.hello("client-1");
  scripted.turn("client-1");
  scripted.write_run();
  CHECK(first_wrong(cli::verify_run(scripted.run())) == "");
  CHECK(first_wrong(cli::verify_state_folder(scripted.state())) == "");
  const auto record = coordinator::make_record(scripted.federation.coordinator().store(), 1);
  CHECK(record.updates.size() == 2);
  CHECK(record.updates[0].signer == identity("client-1").public_part.signing);  // the old key
}

TEST_CASE("verify: an open round is looked into") {
  Scripted scripted;
  scripted.start();
  scripted.turn("client-1");
  const core::Bytes payload = tensors::to_bytes(small_update(2, 0.25));
  const fs::path blob = scripted.state() / "blobs" / core::to_hex(crypto::sha256(payload));
  const std::string bytes = content(blob);
  CHECK(first_wrong(cli::verify_state_folder(scripted.state())) == "");  // while it runs
  fs::remove(blob);
  CHECK(first_wrong(cli::verify_state_folder(scripted.state())).find("payload is missing") !=
        std::string::npos);
  replace(blob, bytes + "x");
  CHECK(first_wrong(cli::verify_state_folder(scripted.state())).find("what its name says") !=
        std::string::npos);
}

TEST_CASE("verify: a run whose last version was taken away is not sound") {
  const TinyFederation tiny;
  simulate_tiny(tiny);
  const fs::path run = tiny.path() / "run";
  fs::rename(run / "versions" / "0002", tiny.path() / "0002");
  CHECK(first_wrong(cli::verify_run(run)).find("report.json: ") == 0);
  fs::remove(run / "report.json");
  coordinator::write_run_index(run);
  CHECK(first_wrong(cli::verify_run(run)).find("global: ") == 0);
  fs::rename(run / "versions" / "0001", tiny.path() / "0001");
  fs::remove_all(run / "global");  // there need not be one of version 0
  CHECK(first_wrong(cli::verify_run(run)).find("the state has 3 versions") != std::string::npos);
  fs::rename(run / "state", tiny.path() / "state");
  CHECK(first_wrong(cli::verify_run(run)) == "");  // nothing is left that knows of it but a head
}

TEST_CASE("verify: what a run lacks is missed") {
  const TinyFederation tiny;
  simulate_tiny(tiny);
  const fs::path run = tiny.path() / "run";
  const fs::path version = run / "versions" / "0001";
  const auto starts = [](const std::string& wrong, const std::string& start) {
    CAPTURE(start);
    CHECK_MESSAGE(wrong.starts_with(start), wrong);
  };
  REQUIRE(first_wrong(cli::verify_run(run)) == "");
  starts(wrong_without(run, blob_of(version / "updates" / "client-1.safetensors")),
         "state: version 1: client-1's payload blobs/");
  starts(wrong_without(run, blob_of(version / "factors.safetensors")), "state: version 1: ");
  starts(wrong_without(run, "state/blobs"), "state: version 0: ");
  starts(wrong_without(run, "state/state.sqlite"), "state: state.sqlite is missing beside blobs/");
  starts(wrong_without(run, "global"), "global: is missing");
  starts(wrong_without(run, coordinator::kRunIndex), "SHA256SUMS: is missing");
  starts(wrong_without(run, "versions/0002/updates/client-3.safetensors"),
         "version 2: client-3's payload updates/client-3.safetensors is missing although");
  starts(wrong_without(run, "versions/0001/updates"), "version 1: client-1's payload updates/");
  const std::string index = content(run / coordinator::kRunIndex);
  replace(run / coordinator::kRunIndex, "");
  starts(first_wrong(cli::verify_run(run)), "SHA256SUMS: config.toml is not listed");
  replace(run / coordinator::kRunIndex, index.substr(0, index.rfind('\n', index.size() - 2) + 1));
  starts(first_wrong(cli::verify_run(run)), "SHA256SUMS: report.json is not listed");
  replace(run / coordinator::kRunIndex, index);
  CHECK(wrong_without(run, "state") == "");  // a copy need not have it
  CHECK(first_wrong(cli::verify_run(run)) == "");
}

TEST_CASE("verify: updates that were not kept are not missed") {
  const TinyFederation tiny;
  simulate_tiny(tiny, {"output.keep_updates=false"});
  const cli::Verification run = cli::verify_run(tiny.path() / "run");
  CHECK(first_wrong(run) == "");
  CHECK(cli::to_text(run).find("version 1: signatures and chain hold, 4 updates, not recomputed") !=
        std::string::npos);
  const cli::Verification state = cli::verify_state_folder(tiny.path() / "run" / "state");
  CHECK(first_wrong(state) == "");
  CHECK(cli::to_text(state).find(" updates of finished rounds are not there") != std::string::npos);
}

TEST_CASE("verify: without its config.toml a run is wrong, and the rest is looked into") {
  const TinyFederation tiny;
  simulate_tiny(tiny);
  const fs::path run = tiny.path() / "run";
  CHECK(cli::to_text(cli::verify_run(run)).find("\nconfig.toml: its hash is in every version") !=
        std::string::npos);
  const std::string config = content(run / "config.toml");
  std::string other = config;
  other.replace(other.find("seed = 7"), 8, "seed = 8");
  const auto check = [&](const std::string& wrong) {
    const cli::Verification verification = cli::verify_run(run);
    const std::string text = cli::to_text(verification);
    CAPTURE(text);
    CHECK(first_wrong(verification).starts_with("config.toml: " + wrong));
    CHECK(text.find("give the path of") == std::string::npos);
    CHECK(text.find("version 2: signatures and chain hold, 4 updates, not recomputed") !=
          std::string::npos);
    CHECK(text.find("\nglobal: not checked: needs config.toml") != std::string::npos);
    CHECK(text.find("\nreport.json: as signed") != std::string::npos);
    CHECK(text.find("\nstate: rows as signed") != std::string::npos);
  };
  replace(run / "config.toml", "name = ");
  check((run / "config.toml").string());
  replace(run / "config.toml", other);
  check("is not the configuration that was run");
  fs::remove(run / "config.toml");
  check("is missing");
  replace(run / "versions/0002/factors.safetensors", "x");
  CHECK(first_wrong(cli::verify_run(run)).starts_with("version 2: "));
}

TEST_CASE("verify: damaged JSON is told by its file's name") {
  const TinyFederation tiny;
  simulate_tiny(tiny);
  const fs::path run = tiny.path() / "run";
  const auto check = [&](const fs::path& name, const std::string& bytes, const std::string& wrong) {
    const std::string whole = content(run / name);
    replace(run / name, bytes);
    coordinator::write_run_index(run);
    const cli::Verification verification = cli::verify_run(run);
    replace(run / name, whole);
    coordinator::write_run_index(run);
    const std::string text = cli::to_text(verification);
    CHECK_MESSAGE(text.find(wrong) != std::string::npos, text);
    CHECK_MESSAGE(text.find("\nWRONG: ") != std::string::npos, text);
    CHECK_MESSAGE(text.ends_with(" do not hold\n"), text);
    CHECK_MESSAGE(text.find("[json.exception") == std::string::npos, text);
  };
  check("report.json", "{\"name\": ", "report.json is not JSON: ");
  check("report.json", "{}", "report.json is not such a report: ");
  check("report.json", "[]", "report.json is not such a report: ");
  check("versions/0001/version.json", "{\"", "version 1: WRONG: version.json: not valid JSON");
  check("versions/0001/version.json", "{}", "version 1: WRONG: version.json: ");
  CHECK(first_wrong(cli::verify_run(run)) == "");
}

TEST_CASE("verify: of many files that are not covered, five a folder are named") {
  cli::Verification verification;
  verification.not_covered = {"state/state.sqlite: what nobody signed", "log.txt"};
  for (int client = 1; client <= 8; ++client) {
    verification.not_covered.push_back("state/clients/client-" + std::to_string(client) + "/a");
  }
  verification.not_covered.push_back("state/lock");
  CHECK(cli::to_text(verification)
            .starts_with("not covered: state/state.sqlite: what nobody signed, state/lock, "
                         "log.txt, state/clients/client-1/a, state/clients/client-2/a, "
                         "state/clients/client-3/a, state/clients/client-4/a, "
                         "state/clients/client-5/a and 3 more in state/clients\n"));
  CHECK(cli::to_json(verification).find("client-8/a") != std::string::npos);  // for programs: all
}

TEST_CASE("inspect: what cannot be meant is refused with what to name") {
  const TinyFederation tiny;
  simulate_tiny(tiny, {"federation.rounds=1"});
  const std::string run = tiny.path() / "run";
  CHECK(inspect_command(run) == 0);
  CHECK_THROWS_WITH_AS(inspect_command(run, {"--head", "abc"}),
                       doctest::Contains("--head: needs --verify"), core::ConfigError);
  CHECK_THROWS_WITH_AS(inspect_command(run, {"--verify", "--head", "abc"}),
                       doctest::Contains("it is not that run"), core::Error);
  for (const std::vector<const char*>& flags : {std::vector<const char*>{}, {"--verify"}}) {
    CHECK_THROWS_WITH_AS(inspect_command(run + "/nowhere", flags),
                         doctest::Contains("nowhere: does not exist"), core::ConfigError);
  }
  const std::string message = "name its folder " + run + "/global";
  CHECK_THROWS_WITH_AS(inspect_command(run + "/global/adapter_model.safetensors"),
                       doctest::Contains(message.c_str()), core::ConfigError);
}

TEST_CASE("verify: a figure made better is found, whatever the sums say") {
  const TinyFederation tiny;
  simulate_tiny(tiny);
  const fs::path run = tiny.path() / "run";
  const std::string report = content(run / "report.json");
  for (const std::string key : {"\"accuracy\": ", "\"train_loss\": ", "\"accepted\": ",
                                "\"tokens\": ", "\"stack_rank\": ", "\"seed\": "}) {
    CAPTURE(key);
    std::string better = report;
    better.insert(better.find(key) + key.size(), "1");
    replace(run / "report.json", better);
    coordinator::write_run_index(run);
    CHECK(first_wrong(cli::verify_run(run)).find("report.json: ") == 0);
  }
  replace(run / "report.json", report);
  coordinator::write_run_index(run);
  CHECK(first_wrong(cli::verify_run(run)) == "");
}

TEST_CASE("verify: every flipped bit of a run folder is found, or its file is listed") {
  const TinyFederation tiny;
  simulate_tiny(tiny, {"aggregation.compaction={rank=2}"});
  const auto listed = flip_everything(tiny.path() / "run", cli::verify_run);
  for (const std::string& name : listed) {
    CAPTURE(name);
    const bool is_known = name == "metrics.jsonl" || name == "state/state.sqlite" ||
                          name == "state/lock" || name.starts_with("state/memory/") ||
                          name.starts_with("state/sum-") ||  // made again where it is damaged
                          name.starts_with("state/clients/");
    CHECK(is_known);
  }
}

TEST_CASE("verify: every flipped bit of a state folder is found, or its file is listed") {
  Scripted scripted;
  scripted.start();
  scripted.turn("client-1");
  scripted.turn("client-2");
  scripted.turn("client-1");
  scripted.federation.crash();
  const auto listed = flip_everything(scripted.state(), cli::verify_state_folder);
  for (const std::string& name : listed) {
    CAPTURE(name);
    CHECK((name == "state.sqlite" || name == "next.safetensors"));
  }
}

TEST_CASE("verify: two at a time, in a folder that nobody may write to") {
  const TinyFederation tiny;
  simulate_tiny(tiny);
  const fs::path run = tiny.path() / "run";
  const auto before = files_in(run);
  fs::permissions(run, fs::perms::owner_read | fs::perms::owner_exec);
  CHECK(first_wrong(cli::verify_run(run)) == "");
  const std::string text = cli::to_text(cli::verify_run(run));
  CHECK(text.find("not covered: ") != std::string::npos);
  CHECK(text.find("\nsound: all ") != std::string::npos);
  fs::permissions(run, fs::perms::owner_all);
  CHECK(files_in(run) == before);
}
