// What a simulation takes beside training: the first client's update is trained, every other one is
// that with a number changed, so that each has bytes and a hash of its own. Prints JSON: the
// update's bytes, milliseconds and processor milliseconds a client over the rounds after the first,
// and how long copying the update in memory takes.
// Run: build/bench/simulation_overhead FEDERATION.toml FOLDER [KEY=VALUE …]

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "coordinator/run_folder.h"
#include "core/config.h"
#include "core/error.h"
#include "crypto/hash.h"
#include "simulation/simulator.h"
#include "tensors/process.h"

namespace {

using namespace drystone;
using Clock = std::chrono::steady_clock;

double processor_seconds() {
  return static_cast<double>(std::clock()) / static_cast<double>(CLOCKS_PER_SEC);
}

double milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

/// Answers for every client with the update that the first one trained.
class MadeUpdates {
 public:
  std::vector<client::JobResult> operator()(simulation::SlotTraining& slot) {
    std::vector<client::JobResult> results;
    results.reserve(slot.jobs.size());
    for (client::GroupJob& one : slot.jobs) results.push_back(answer(slot, one));
    return results;
  }
  const core::Bytes& payload() const { return first_->payload; }

 private:
  client::JobResult answer(const simulation::SlotTraining& slot, client::GroupJob& one) {
    const std::shared_ptr<const client::CheckedPlan> plan = one.job.plan;
    client::Update made = train_once(slot, one);
    float number = 0.0F;
    std::uint8_t* last = made.payload.data() + made.payload.size() - sizeof(number);
    std::memcpy(&number, last, sizeof(number));
    number += 1e-6F * static_cast<float>(++num_made_ % 100'000);
    std::memcpy(last, &number, sizeof(number));
    wire::UpdateManifest& manifest = made.answer.manifest;
    manifest.client = one.settings.client;
    manifest.round = plan->round;
    manifest.attempt = plan->attempt;
    manifest.base_version = plan->base_version;
    manifest.payload = crypto::sha256(made.payload);
    made.answer.base_head = plan->base_head;
    return {.job = std::move(one.job), .trained = std::move(made), .evaluated = {}};
  }

  client::Update train_once(const simulation::SlotTraining& slot, const client::GroupJob& one) {
    const std::scoped_lock lock(mutex_);
    if (!first_) {
      first_ = client::run_job(slot.workbench, one.settings, one.job, {}).trained;
      if (!first_) throw core::Error("the first client did not train");
    }
    return *first_;
  }

  std::mutex mutex_;
  std::optional<client::Update> first_;
  std::atomic<std::uint64_t> num_made_{0};
};

/// From the end of the first round to that of the last.
class Stopwatch final : public coordinator::Observer {
 public:
  void on_published(const coordinator::RoundReport& round) override {
    last_ = Clock::now();
    last_cpu_ = processor_seconds();
    if (begin_ == Clock::time_point{}) {
      begin_ = last_;
      begin_cpu_ = last_cpu_;
    } else {
      num_clients_ += round.accepted;
    }
  }
  double milliseconds_a_client() const {
    return milliseconds(last_ - begin_) / static_cast<double>(num_clients_);
  }
  double processor_milliseconds_a_client() const {
    return 1e3 * (last_cpu_ - begin_cpu_) / static_cast<double>(num_clients_);
  }

 private:
  Clock::time_point begin_;
  Clock::time_point last_;
  double begin_cpu_ = 0.0;
  double last_cpu_ = 0.0;
  std::uint64_t num_clients_ = 0;
};

double copy_milliseconds(const core::Bytes& payload) {
  constexpr int kCopies = 20;
  core::Bytes copy(payload.size());
  std::memcpy(copy.data(), payload.data(), payload.size());
  const auto begin = Clock::now();
  for (int i = 0; i < kCopies; ++i) {
    std::memcpy(copy.data(), payload.data(), payload.size());
    asm volatile("" : : "r"(copy.data()) : "memory");
  }
  return milliseconds(Clock::now() - begin) / kCopies;
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 3) {
    std::fprintf(stderr, "usage: simulation_overhead FEDERATION.toml FOLDER [KEY=VALUE …]\n");
    return 2;
  }
  const std::vector<std::string> overrides(arguments.begin() + 3, arguments.end());
  MadeUpdates made;
  Stopwatch stopwatch;
  std::filesystem::create_directories(arguments[2]);
  coordinator::MetricsRecorder recorder(arguments[2]);
  const auto outcome =
      simulation::simulate(core::load_config(arguments[1], overrides),
                           {.run_dir = arguments[2],
                            .device = "cpu",
                            .stop = {},
                            .train = [&](simulation::SlotTraining& slot) { return made(slot); }},
                           {&stopwatch, &recorder});
  if (outcome.failure) throw core::Error(*outcome.failure);
  const nlohmann::ordered_json line = {{"bytes", made.payload().size()},
                                       {"ms", stopwatch.milliseconds_a_client()},
                                       {"cpu_ms", stopwatch.processor_milliseconds_a_client()},
                                       {"memcpy_ms", copy_milliseconds(made.payload())}};
  std::printf("%s\n", line.dump().c_str());
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  tensors::tune_process();
  try {
    return run(std::vector<std::string>(arguments, arguments + count));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "simulation_overhead: %s\n", error.what());
    return 1;
  }
}
