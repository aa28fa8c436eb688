#include "coordinator/run_folder.h"

#include <fstream>

#include <doctest/doctest.h>

#include "coordinator/run_index.h"
#include "core/files.h"
#include "tests/coordinator/harness.h"
#include "wire/durable_file.h"

using namespace drystone;
using namespace drystone::test;

namespace {

/// One round of one client, and its run folder.
class OneRound {
 public:
  OneRound() : federation_(dir_.path(), 1, 1) {
    federation_.start();
    federation_.hello("client-1");
    const auto task = federation_.next<wire::Task>("client-1").value();
    REQUIRE(federation_.take_part("client-1", task, 2, 0.25)->accepted);
    federation_.settle();
  }
  void write() {
    coordinator::write_run_folder(
        {.dir = run(), .config = federation_.config(), .layout = small_layout()},
        federation_.coordinator());
  }
  fs::path run() const { return dir_.path() / "run"; }
  fs::path state() const { return dir_.path() / "state"; }

 private:
  TemporaryFolder dir_;
  Federation federation_;
};

}  // namespace

TEST_CASE("run folder: what an interrupted copy left is replaced, not taken for the payload") {
  OneRound round;
  const fs::path version = round.run() / "versions" / "0001";
  const std::vector<fs::path> payloads = {version / "factors.safetensors",
                                          version / "updates" / "client-1.safetensors"};
  for (const fs::path& payload : payloads) {
    fs::create_directories(payload.parent_path());
    std::ofstream(payload) << "half a pay";
    std::ofstream(payload.string() + ".tmp-0123456789abcdef") << "less";
  }
  round.write();
  for (const fs::path& payload : payloads) {
    CAPTURE(payload.string());
    const std::string name = core::to_hex(wire::hash_file(payload));
    CHECK(fs::exists(round.state() / "blobs" / name));
    CHECK_FALSE(fs::exists(payload.string() + ".tmp-0123456789abcdef"));
    CHECK(fs::hard_link_count(payload) == 2);
  }
  round.write();  // again: nothing to do
  CHECK(std::distance(fs::directory_iterator(version / "updates"), {}) == 1);
}

TEST_CASE("run folder: a beginning sweeps interrupted writes, and nothing else") {
  const TemporaryFolder dir;
  std::ofstream(dir / "report.json.tmp-0123456789abcdef") << "left";
  std::ofstream(dir / "notes.tmp-1") << "somebody's";
  coordinator::begin_run_folder(dir.path(), core::Config{});
  CHECK_FALSE(fs::exists(dir / "report.json.tmp-0123456789abcdef"));
  CHECK(fs::exists(dir / "notes.tmp-1"));
  CHECK(fs::exists(dir / "config.toml"));
}

TEST_CASE("run folder: a version's payload that the disk damaged is not passed on") {
  OneRound round;
  round.write();
  const fs::path factors = round.run() / "versions" / "0001" / "factors.safetensors";
  fs::resize_file(factors, fs::file_size(factors) - 1);  // the blob's other name
  CHECK_THROWS_WITH_AS(round.write(), doctest::Contains("version 1 is missing or damaged"),
                       core::IoError);
}

TEST_CASE("run folder: SHA256SUMS is there when all it names is, and in the form of sha256sum") {
  OneRound round;
  round.write();
  const auto index = coordinator::read_run_index(round.run());
  CHECK(index.size() == 4);
  CHECK(index.at("report.json") == wire::hash_file(round.run() / "report.json"));
  fs::create_directories(round.run() / "report.html.d");
  fs::remove(round.run() / "report.html");
  fs::rename(round.run() / "report.html.d", round.run() / "report.html");
  CHECK_THROWS_AS(round.write(), core::IoError);  // interrupted while files were being replaced
  CHECK(coordinator::read_run_index(round.run()).empty());
  core::write_file_atomic(round.run() / coordinator::kRunIndex, core::as_bytes("0123  short\n"));
  CHECK_THROWS_AS(coordinator::read_run_index(round.run()), core::IoError);
}
