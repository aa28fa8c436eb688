// What the coordinator costs beside its clients: two of them send updates of a rank for the linear
// layers of a 110M Llama; when is each version published, when is global/ there, in what memory?
//     /usr/bin/time -v build/bench/run_end FOLDER [RANK = 256] [ROUNDS = 2]
// Started again on the same FOLDER without FOLDER/state/sum-*, it times global/ alone.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>

#include <ATen/TensorOperators.h>

#include "coordinator/coordinator.h"
#include "coordinator/global_keeper.h"
#include "core/files.h"
#include "crypto/hash.h"
#include "tensors/factor_set_io.h"
#include "tensors/random.h"
#include "tensors/threads.h"
#include "wire/inproc_transport.h"

namespace {

using namespace drystone;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

aggregation::AdapterLayout llama_110m() {
  aggregation::AdapterLayout layout;
  for (int i = 0; i < 12; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      layout.modules[layer + "self_attn." + name] = {768, 768};
    }
    for (const char* name : {"gate_proj", "up_proj"}) {
      layout.modules[layer + "mlp." + name] = {2048, 768};
    }
    layout.modules[layer + "mlp.down_proj"] = {768, 2048};
  }
  return layout;
}

long anonymous_megabytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::atol(line.c_str() + 8) / 1024;
  }
  return 0;
}

/// One of the two: answers tasks with made factors, and what is asked for with their bytes.
class Client {
 public:
  Client(wire::InprocHub& hub, const std::string& name, const core::Config& config,
         std::int64_t rank)
      : name_(name),
        rank_(rank),
        identity_(crypto::derive_identity(name, core::as_bytes("run_end"))),
        transport_(hub.connect(name)) {
    transport_->send(
        wire::Hello{.software = "run_end", .base_sha256 = config.model.sha256, .device = "cpu"});
  }

  void pump() {
    while (auto message = transport_->receive(0ms)) {
      if (const auto* task = std::get_if<wire::Task>(&**message)) offer(*task);
      if (const auto* want = std::get_if<wire::Want>(&**message)) answer(*want);
      if (std::holds_alternative<wire::Verdict>(**message)) payload_ = {};
    }
  }

 private:
  void offer(const wire::Task& task) {
    const auto plan = *wire::decode_plan(task.plan.bytes);
    tensors::FactorSet update;
    for (const auto& [module, shape] : llama_110m().modules) {
      const auto made = [&](const char* side, std::int64_t rows, std::int64_t columns) {
        return tensors::random_normal({.seed = plan.round, .purpose = name_ + module + side},
                                      {rows, columns});
      };
      update.modules[module] = {.b = made("b", shape.out, rank_) * 0.01,
                                .a = made("a", rank_, shape.in)};
    }
    payload_ = tensors::to_bytes(update);
    core::Bytes manifest = wire::encode(wire::UpdateManifest{.round = plan.round,
                                                             .attempt = plan.attempt,
                                                             .client = name_,
                                                             .base_version = plan.base_version,
                                                             .payload = crypto::sha256(payload_),
                                                             .payload_bytes = payload_.size(),
                                                             .num_examples = 10,
                                                             .num_steps = 1,
                                                             .num_tokens = 1,
                                                             .train_loss = 1.0,
                                                             .method = "lora"});
    const auto signature =
        crypto::sign(identity_, "update", wire::transcript(task.plan.bytes), manifest);
    transport_->send(wire::Offer{{std::move(manifest), signature}, 0.1});
  }

  void answer(const wire::Want& want) {
    const auto begin = payload_.begin() + static_cast<std::ptrdiff_t>(want.offset);
    const auto left = static_cast<std::uint64_t>(payload_.end() - begin);
    const auto end =
        begin + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(want.length, left));
    transport_->send(wire::Chunk{want.blob, want.offset, core::Bytes(begin, end)});
  }

  std::string name_;
  std::int64_t rank_;
  crypto::Identity identity_;
  std::unique_ptr<wire::ClientTransport> transport_;
  core::Bytes payload_;
};

/// Prints what happens, and keeps the most memory that was seen.
class Watch final : public coordinator::Observer {
 public:
  void on_published(const coordinator::RoundReport& round) override {
    tell("version " + std::to_string(round.version) + " published");
  }
  void on_summed(std::uint64_t, std::int64_t, std::int64_t) override {
    most_ = std::max(most_, anonymous_megabytes());
  }
  void tell(const std::string& what) const {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin_;
    std::printf("%6.1f s  %s, anonymous memory %ld MB\n", passed.count(), what.c_str(),
                std::max(most_, anonymous_megabytes()));
    std::fflush(stdout);
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  long most_ = 0;
};

void run(const fs::path& folder, std::int64_t rank, std::int64_t rounds) {
  tensors::use_threads(1);
  fs::create_directories(folder);
  core::Config config;
  config.name = "run_end";
  config.model.task = "causal-lm";
  config.model.sha256 = std::string(64, 'a');
  config.federation.rounds = rounds;
  config.federation.deadline = 1h;
  crypto::Roster roster;
  for (const char* name : {"client-1", "client-2"}) {
    const auto identity = crypto::derive_identity(name, core::as_bytes("run_end"));
    roster.clients[name] = {identity.public_part, crypto::Role::Train, rank, 100};
  }
  tensors::write_factor_set(folder / "initial", {});
  const auto identity = crypto::derive_identity("coordinator", core::as_bytes("run_end"));
  wire::InprocHub hub;
  const auto server = hub.server();
  const core::SystemClock clock;
  Watch watch;
  coordinator::Coordinator coordinator({.config = config,
                                        .roster = roster,
                                        .layout = llama_110m(),
                                        .initial = folder / "initial",
                                        .state_dir = folder / "state"},
                                       identity, *server, clock,
                                       coordinator::background_thread(*server), {&watch});
  coordinator::GlobalKeeper global({.run_dir = folder,
                                    .state_dir = folder / "state",
                                    .settings = {.config = config, .base_model = ""}},
                                   coordinator, {&watch});
  Client first(hub, "client-1", config, rank);
  Client second(hub, "client-2", config, rank);
  while (!coordinator.is_over()) {
    coordinator.step(1ms);
    global.follow();
    first.pump();
    second.pump();
  }
  watch.tell("over");
  global.finish();
  watch.tell("global/ is there");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("run_end FOLDER [RANK] [ROUNDS]\n", stderr);
    return 2;
  }
  run(argv[1], argc > 2 ? std::atol(argv[2]) : 256, argc > 3 ? std::atol(argv[3]) : 2);
  return 0;
}
