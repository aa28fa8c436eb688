#include "client/runtime.h"

#include <map>
#include <memory>

#include "client/federated_data.h"
#include "client/job.h"
#include "client/session.h"
#include "client/workbench.h"
#include "core/check.h"
#include "core/error.h"
#include "core/log.h"
#include "core/program.h"
#include "core/text.h"
#include "core/worker_pool.h"
#include "wire/zmq_transport.h"

namespace drystone::client {

using namespace std::chrono_literals;

namespace {

constexpr const char* kTestExamples = "test";
constexpr auto kProgressInterval = 500ms;

std::unique_ptr<Workbench> make_workbench(const core::Config& config, const std::string& device,
                                          const std::string& name) {
  auto workbench = std::make_unique<Workbench>(workbench_config(config, device));
  add_own_examples(*workbench, config, name, kTestExamples);
  return workbench;
}

class Runtime {
 public:
  Runtime(const core::Config& config, const std::string& device, core::ProgressBoard& board,
          std::stop_token stop);
  ~Runtime() { session_.cancel_job(); }  // so that the worker ends soon, however this one ended
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  RunEnd run();

 private:
  SessionSettings session_settings();
  void pump();
  void compute(Job job);
  void show(const wire::Progress& progress, bool evaluates);
  void show(const wire::Verdict& verdict);

  core::Config config_;
  core::ProgressBoard& board_;
  std::stop_token stop_;
  crypto::Identity identity_;
  crypto::PublicIdentity coordinator_;
  std::string name_;
  std::unique_ptr<Workbench> workbench_;
  wire::BlobStore blobs_;
  OwnStateKeeper states_;
  Session session_;
  wire::ZmqClient transport_;
  std::uint64_t connections_ = 0;
  core::Channel<std::function<void()>> notices_;  ///< progress, from the worker
  std::optional<core::ProgressBoard::Bar> bar_;
  core::TrainingNote note_;
  core::SystemClock clock_;
  core::Instant last_progress_{};
  core::WorkerPool worker_;  ///< last: its thread uses everything above
};

Runtime::Runtime(const core::Config& config, const std::string& device, core::ProgressBoard& board,
                 std::stop_token stop)
    : config_(config),
      board_(board),
      stop_(std::move(stop)),
      identity_(crypto::load_identity(config.security.identity)),
      coordinator_(crypto::load_public_identity(config.security.coordinator_key)),
      name_(identity_.public_part.name),
      workbench_(make_workbench(config, device, name_)),
      blobs_(config.output.dir / "blobs"),
      session_(session_settings(), identity_, states_, blobs_, workbench_->pristine()),
      transport_(config.security.coordinator, identity_, coordinator_.curve),
      worker_(1, {.on_thread_start = {}, .on_finished = [this] { transport_.wake(); }}) {}

SessionSettings Runtime::session_settings() {
  const bool trains = !config_.data.train.empty();
  return {.client = name_,
          .method = config_.training.method,
          .coordinator_signing = coordinator_.signing,
          .hello = {.software = "drystone " + core::version(),
                    .base_sha256 = workbench_->base_sha256(),
                    .device = workbench_->device(),
                    .num_examples =
                        trains ? static_cast<std::uint64_t>(workbench_->num_examples(name_)) : 0,
                    .base = config_.model.quantization}};
}

RunEnd Runtime::run() {
  core::log_info("connecting", {{"client", std::string_view(name_)},
                                {"coordinator", std::string_view(config_.security.coordinator)},
                                {"device", std::string_view(session_settings().hello.device)}});
  while (!session_.is_done() && !stop_.stop_requested()) pump();
  return session_.is_done() ? RunEnd::Done : RunEnd::Stopped;
}

void Runtime::pump() {
  auto message = transport_.receive(100ms);
  if (transport_.connections() != connections_) {
    connections_ = transport_.connections();
    core::log_info(connections_ == 1 ? "connected" : "connected again");
    session_.on_connected();
  }
  if (transport_.num_refused() > 0) {
    throw core::Error(name_ + ": the coordinator refuses this key; have " + name_ +
                      ".pub put into its roster");
  }
  for (; message; message = transport_.receive(0ms)) {
    if (!*message) {
      throw core::Error("coordinator: unreadable message: " + message->error().detail +
                        "; check that both sides run the same version");
    }
    session_.on_message(std::move(**message));
  }
  worker_.run_finished();
  while (const auto notice = notices_.try_receive()) (*notice)();
  for (const wire::Verdict& verdict : session_.take_verdicts()) show(verdict);
  if (auto job = session_.take_job()) compute(std::move(*job));
  for (wire::Message& outgoing : session_.take_messages()) transport_.send(std::move(outgoing));
}

void Runtime::compute(Job job) {
  const bool evaluates = std::holds_alternative<EvaluateJob>(job);
  bar_.reset();
  const JobSettings settings{.client = name_,
                             .training = config_.training,
                             .test = kTestExamples,
                             .memory = config_.output.dir / "memory"};
  worker_.post([this, settings, evaluates,
                job = std::move(job)]() mutable -> core::WorkerPool::Continuation {
    const auto on_progress = [this, evaluates](const wire::Progress& progress) {
      notices_.send([this, evaluates, progress] { show(progress, evaluates); });
    };
    auto result =
        std::make_shared<JobResult>(run_job(*workbench_, settings, std::move(job), on_progress));
    return [this, result] {
      bar_.reset();
      deliver(session_, std::move(*result));
    };
  });
}

void Runtime::show(const wire::Progress& progress, bool evaluates) {
  if (!bar_) {
    const std::string what =
        (evaluates ? "evaluate version " : "round ") + std::to_string(progress.round);
    bar_ = board_.add(what, static_cast<std::int64_t>(progress.num_steps),
                      static_cast<std::int64_t>(progress.step));
    note_ = {};
  }
  const core::Instant now = clock_.now();
  bar_->update(static_cast<std::int64_t>(progress.step),
               evaluates ? ""
                         : note_.text(now, {.loss = progress.loss,
                                            .num_tokens = progress.num_tokens,
                                            .peak_bytes = progress.peak_bytes}));
  if (now - last_progress_ < kProgressInterval && progress.step != progress.num_steps) return;
  last_progress_ = now;
  transport_.send(progress);
}

void Runtime::show(const wire::Verdict& verdict) {
  const auto round = static_cast<std::int64_t>(verdict.round);
  if (verdict.accepted) {
    core::log_info("update accepted", {{"round", round}});
  } else {
    core::log_warning("update refused", {{"round", round},
                                         {"reason", std::string_view(core::name(verdict.refusal))},
                                         {"detail", std::string_view(verdict.detail)}});
  }
}

}  // namespace

RunEnd run_client(const core::Config& config, const std::string& device, core::ProgressBoard& board,
                  const std::stop_token& stop) {
  return Runtime(config, device, board, stop).run();
}

}  // namespace drystone::client
