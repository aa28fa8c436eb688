// global/ while a federation runs, is killed, and is over.

#include "coordinator/global_keeper.h"

#include <fstream>
#include <functional>
#include <map>
#include <set>

#include <ATen/TensorOperators.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tensors/peft_io.h"
#include "tests/coordinator/harness.h"

using namespace drystone;
using namespace drystone::test;

namespace {

constexpr int kRounds = 3;

/// A federation of two with a keeper beside it, all of which may die at any time.
class Run {
 public:
  Run() {
    federation_.config().data.labels = {"a", "b", "c"};
    start();
  }

  Federation& federation() { return federation_; }
  coordinator::GlobalKeeper& keeper() { return *keeper_; }
  fs::path global() const { return dir_.path() / "global"; }
  fs::path state() const { return dir_.path() / "state"; }

  void start() {
    federation_.start();
    keeper_ = std::make_unique<coordinator::GlobalKeeper>(
        coordinator::GlobalKeeperSetup{
            .run_dir = dir_.path(),
            .state_dir = state(),
            .settings = {.config = federation_.config(), .base_model = "base"}},
        federation_.coordinator());
    federation_.hello("client-1");
    federation_.hello("client-2");
  }
  void crash() {
    keeper_.reset();
    federation_.crash();
  }
  void round() {
    for (const std::string name : {"client-1", "client-2"}) {
      const auto task = federation_.next<wire::Task>(name);
      REQUIRE(task.has_value());
      const auto plan = wire::decode_plan(task->plan.bytes);
      const std::int64_t rank = name == "client-1" ? 2 : 4;
      REQUIRE(federation_.take_part(name, *task, rank, 0.25 * static_cast<double>(plan->round))
                  ->accepted);
    }
    federation_.settle();
  }
  std::map<std::string, std::string> files() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(global())) {
      if (entry.is_directory()) continue;
      const std::string name = fs::relative(entry.path(), dir_.path()).string();
      files[name] = dir_.read(name);
    }
    return files;
  }

 private:
  TemporaryFolder dir_;
  Federation federation_{dir_.path(), 2, kRounds};
  std::unique_ptr<coordinator::GlobalKeeper> keeper_;
};

/// global/ after each round of a run that nothing happens to.
const std::vector<std::map<std::string, std::string>>& undisturbed() {
  static const auto all = [] {
    std::vector<std::map<std::string, std::string>> folders;
    Run run;
    for (int round = 0; round <= kRounds; ++round) {
      if (round > 0) run.round();
      run.keeper().finish();
      folders.push_back(run.files());
    }
    return folders;
  }();
  return all;
}

void check_files(const Run& run, std::size_t round) {
  const auto files = run.files();
  const auto& expected = undisturbed().at(round);
  REQUIRE(files.size() == expected.size());
  for (const auto& [name, content] : expected) {
    CAPTURE(name);
    CHECK(files.at(name) == content);
  }
}

}  // namespace

TEST_CASE("global/: there after every round, the sum of the versions so far, with the labels") {
  Run run;
  run.keeper().finish();
  CHECK(fs::exists(run.global() / "labels.json"));  // version 0: no factors yet
  double expected = 0.0;
  for (int round = 1; round <= kRounds; ++round) {
    run.round();
    run.keeper().finish();
    // As in the coordinator's test, twice and thrice in the later rounds.
    expected += 0.375 * round;
    const tensors::FactorSet adapter = tensors::read_peft(run.global());
    CHECK(adapter.modules.at("layer.0.query").product().max().item<float>() ==
          doctest::Approx(expected));
    CHECK(adapter.modules.at("layer.0.query").rank() == 1);
    CHECK(fs::exists(run.global() / "head.safetensors"));
    CHECK_FALSE(fs::exists(run.global().string() + ".next"));
  }
}

TEST_CASE("global/: killed at any point, the next life comes to the same bytes") {
  for (std::size_t round = 0; round <= kRounds; ++round) {
    for (const bool has_followed : {false, true}) {
      CAPTURE(round);
      CAPTURE(has_followed);
      Run run;
      for (std::size_t i = 0; i < round; ++i) run.round();
      if (has_followed) run.keeper().follow();  // dies in the middle, or before it began
      run.crash();
      run.start();
      run.keeper().finish();
      check_files(run, round);
      for (std::size_t i = round; i < kRounds; ++i) run.round();
      run.keeper().finish();
      check_files(run, kRounds);
    }
  }
}

TEST_CASE("global/: whatever a crash leaves of the sum, the same bytes come of it") {
  const auto truncate = [](const fs::path& file) { fs::resize_file(file, 100); };
  const auto flip = [](const fs::path& file) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(-3, std::ios::end);
    stream.put('x');
  };
  const auto remove = [](const fs::path& file) { fs::remove(file); };
  const std::vector<std::function<void(const Run&)>> damages = {
      [&](const Run& run) { truncate(run.state() / "sum-2.safetensors"); },
      [&](const Run& run) { flip(run.state() / "sum-2.safetensors"); },
      [&](const Run& run) { remove(run.state() / "sum-2.safetensors"); },
      [&](const Run& run) { remove(run.state() / "sum-2.sha256"); },
      [&](const Run& run) { fs::remove_all(run.global()); },
      [&](const Run& run) {  // died while the next sum was written
        std::ofstream(run.state() / "sum-3.safetensors.data") << "half";
      },
      [&](const Run& run) {  // died before its hash was
        fs::copy_file(run.state() / "sum-2.safetensors", run.state() / "sum-3.safetensors");
      },
      [&](const Run& run) {  // died between the two
        fs::create_directories(run.global().string() + ".next");
        std::ofstream(run.global().string() + ".next/stale") << "x";
      }};
  for (std::size_t damage = 0; damage < damages.size(); ++damage) {
    CAPTURE(damage);
    Run run;
    run.round();
    run.round();
    run.keeper().finish();
    run.crash();
    damages[damage](run);
    run.start();
    run.keeper().finish();
    check_files(run, 2);
    run.round();
    run.keeper().finish();
    check_files(run, 3);
    std::set<std::string> sums;
    for (const auto& entry : fs::directory_iterator(run.state())) {
      const std::string name = entry.path().filename();
      if (name.starts_with("sum-")) sums.insert(name);
    }
    CHECK(sums == std::set<std::string>{"sum-3.safetensors", "sum-3.sha256"});
  }
}

TEST_CASE("global/: what cannot be written is tried again, and never ends the federation") {
  Run run;
  run.round();
  run.keeper().finish();
  const fs::path obstacle = run.state() / "sum-2.safetensors.data";
  fs::create_directories(obstacle / "in the way");
  run.round();
  for (int i = 0; i < 100; ++i) run.keeper().follow();
  CHECK_THROWS_AS(run.keeper().finish(), core::IoError);
  check_files(run, 1);
  fs::remove_all(obstacle);
  run.round();
  run.keeper().finish();
  check_files(run, kRounds);
}
