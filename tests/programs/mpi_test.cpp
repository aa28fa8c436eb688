// drystone simulate under mpirun: the processes end in the head of one, whatever happens to them.

#include <fstream>

#include <doctest/doctest.h>

#include "core/files.h"
#include "tests/programs/deployment.h"

using namespace drystone;
using test::head_of;
using test::Process;
namespace fs = std::filesystem;

namespace {

/// Ranks and methods mixed; lora-pro keeps moments from round to round.
constexpr const char* kMixed = R"([[clients]]
rank = 4
[[clients]]
count = 3
[[clients]]
rank = 3
method = "lora-pro"
count = 2
options = { mode = "full", keep_moments = true }
[[clients]]
rank = 1
method = "rslora"
)";

/// Without dropout of the model's own, so that its clients may share passes.
class MixedFederation : public test::TinyFederation {
 public:
  MixedFederation() : TinyFederation(kMixed) {
    const fs::path file = path() / "model" / "config.json";
    std::string text = core::read_text_file(file, 1 << 20);
    for (std::size_t at = 0; (at = text.find("0.1", at)) != std::string::npos;) {
      text.replace(at, 3, "0.0");
    }
    std::ofstream(file, std::ios::binary) << text;
  }
};

using Words = std::vector<std::string>;

Words simulate(const test::TinyFederation& tiny, const std::string& out, const Words& more) {
  Words words = {"simulate", tiny.config_file(), "--device", "cpu", "--out", tiny.path() / out};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

[[maybe_unused]] std::string whole_head(const test::TinyFederation& tiny, const std::string& out,
                                        const Words& more) {
  Process process("drystone", simulate(tiny, out, more), tiny.path() / (out + ".log"));
  REQUIRE_MESSAGE(process.wait() == 0, process.output());
  return head_of(tiny.path() / out);
}

}  // namespace

#ifdef DRYSTONE_MPIRUN

namespace {

const std::string kDrystone = std::string(DRYSTONE_BINARY_DIR) + "/bin/drystone";

/// @param parts  numbers of processes, and the words of drystone for each
Process mpirun(const std::vector<std::pair<int, Words>>& parts, const fs::path& log) {
  for (const char* allowed : {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
                              "OMPI_MCA_rmaps_base_oversubscribe"}) {
    ::setenv(allowed, "1", 1);
  }
  Words words;
  for (const auto& [count, own] : parts) {
    if (!words.empty()) words.emplace_back(":");
    words.insert(words.end(), {"-n", std::to_string(count), kDrystone});
    words.insert(words.end(), own.begin(), own.end());
  }
  return {DRYSTONE_MPIRUN, words, log};
}

std::string shared_head(const test::TinyFederation& tiny, int processes, const std::string& out,
                        Words more) {
  more.insert(more.end(), {"--set", "simulation.workers=1"});
  Process process = mpirun({{processes, simulate(tiny, out, more)}}, tiny.path() / (out + ".log"));
  REQUIRE_MESSAGE(process.wait() == 0, process.output());
  CHECK(process.output().find("other processes help processes=" + std::to_string(processes - 1)) !=
        std::string::npos);
  return head_of(tiny.path() / out);
}

/// The child of `parent` that was started last.
pid_t last_child(pid_t parent) {
  pid_t last = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::string name;
    pid_t pid = 0;
    char state = 0;
    pid_t its_parent = 0;
    if (!(std::ifstream(entry.path() / "stat") >> pid >> name >> state >> its_parent)) continue;
    if (its_parent == parent && name == "(drystone)") last = std::max(last, pid);
  }
  return last;
}

}  // namespace

TEST_CASE("mpirun: two and four processes end in the head of one") {
  const MixedFederation tiny;
  const std::string whole = whole_head(tiny, "one", {});
  CHECK(shared_head(tiny, 2, "two", {}) == whole);
  CHECK(shared_head(tiny, 4, "four", {}) == whole);
}

TEST_CASE("mpirun: groups are those of one process") {
  const MixedFederation tiny;
  const Words three = {"--set", "simulation.group=3"};
  CHECK(shared_head(tiny, 2, "two", three) == whole_head(tiny, "one", three));
  CHECK(core::read_text_file(tiny.path() / "two.log", 1 << 20).find("share passes") !=
        std::string::npos);
  const Words automatic = {"--set", "simulation.group=auto"};
  CHECK(shared_head(tiny, 3, "three", automatic) ==
        whole_head(tiny, "auto",
                   {"--set", "simulation.group=auto", "--set", "simulation.workers=3"}));
}

TEST_CASE("mpirun: a process that is killed ends the run, which goes on with another number") {
  const MixedFederation tiny;
  const Words rounds = {"--set", "federation.rounds=12"};
  const std::string whole = whole_head(tiny, "whole", rounds);
  Process killed = mpirun({{3, simulate(tiny, "run", rounds)}}, tiny.path() / "killed.log");
  REQUIRE_MESSAGE(killed.says("version published version=2"), killed.output());
  const pid_t helper = last_child(killed.pid());
  REQUIRE(helper > 0);
  ::kill(helper, SIGKILL);
  CHECK(killed.wait() != 0);
  CHECK_MESSAGE(killed.output().find("exited on signal 9") != std::string::npos, killed.output());
  Words resumed = rounds;
  resumed.emplace_back("--resume");
  CHECK(shared_head(tiny, 2, "run", resumed) == whole);
}

TEST_CASE("mpirun: what another process lacks or has otherwise is one line, and leaves nothing") {
  const MixedFederation tiny;
  const Words fine = simulate(tiny, "run", {});
  const fs::path other = tiny.path() / "other.jsonl";
  fs::copy_file(tiny.path() / "train.jsonl", other);
  const auto said = [&](const std::string& key) {
    Process process = mpirun({{1, fine}, {1, simulate(tiny, "run", {"--set", key})}},
                             tiny.path() / (key.substr(0, 4) + ".log"));
    CHECK(process.wait() == 2);
    CHECK_FALSE(fs::exists(tiny.path() / "run"));
    const std::string text = process.output();
    return text.substr(std::min(text.size(), text.find("drystone: error: process 1 on ")));
  };
  CHECK(said("data.train=missing.jsonl").find("missing.jsonl: no such file") != std::string::npos);
  fs::copy(tiny.path() / "model", tiny.path() / "model-2");
  std::ofstream(tiny.path() / "model-2" / "config.json", std::ios::app) << "\n";
  CHECK(said("model.path=" + (tiny.path() / "model-2").string())
            .find("the base model's SHA-256 is") != std::string::npos);
  std::ofstream(other, std::ios::app) << R"({"text": "a", "label": "class-0"})" << "\n";
  CHECK(said("data.train=" + other.string()).find("SHA-256") != std::string::npos);
}

#else

TEST_CASE("mpirun: a program without MPI says how to build with it") {
  MESSAGE("the other tests of several processes are left out: MPI was not found");
  const MixedFederation tiny;
  ::setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
  Process process("drystone", simulate(tiny, "run", {}), tiny.path() / "log");
  ::unsetenv("OMPI_COMM_WORLD_SIZE");
  CHECK(process.wait() == 2);
  CHECK_MESSAGE(process.output().find("-DDRYSTONE_MPI=ON") != std::string::npos, process.output());
  CHECK_FALSE(fs::exists(tiny.path() / "run"));
}

#endif
