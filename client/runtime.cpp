#include "client/runtime.h"

#include <memory>
#include <random>
#include <utility>

#include "client/coordinator_watch.h"
#include "client/disk.h"
#include "client/federated_data.h"
#include "client/input_check.h"
#include "client/job.h"
#include "client/rank_check.h"
#include "client/reveal.h"
#include "client/session.h"
#include "core/check.h"
#include "core/client_list.h"
#include "core/error.h"
#include "core/log.h"
#include "core/program.h"
#include "core/text.h"
#include "core/worker_pool.h"
#include "tensors/threads.h"
#include "training/step_count.h"
#include "training/workbench.h"
#include "wire/reachability.h"
#include "wire/zmq_transport.h"

namespace drystone::client {

using namespace std::chrono_literals;

namespace {

constexpr const char* kTestExamples = "test";
constexpr auto kProgressInterval = 500ms;
/// How long a client that has followed every version looks for a coordinator that may have begun
/// another federation.
constexpr core::Instant kLastLook = 10s;

std::unique_ptr<training::Workbench> make_workbench(const core::Config& config,
                                                    const std::string& device,
                                                    const std::string& name) {
  check_inputs(config);
  auto workbench = std::make_unique<training::Workbench>(workbench_config(config, device));
  add_own_examples(*workbench, config, name, kTestExamples);
  return workbench;
}

std::uint64_t draw_instance() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
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
  Contract contract();
  void tell_seen_before() const;
  std::string why_unreachable() const;
  void pump();
  void receive();
  void flush();
  bool is_greeted() const { return transport_.connections() == connections_; }
  void greet_if_new();
  void work_on_disk();
  void compute(Job job);
  [[noreturn]] void end(const Job& job, const std::exception_ptr& error);
  void show(const wire::Progress& progress, bool evaluates);
  void show(const wire::Verdict& verdict);

  core::Config config_;
  core::ProgressBoard& board_;
  std::stop_token stop_;
  crypto::Identity identity_;
  crypto::PublicIdentity coordinator_;
  std::string name_;
  std::uint64_t instance_;
  std::unique_ptr<training::Workbench> workbench_;
  Session session_;
  Disk disk_;
  wire::ZmqClient transport_;
  std::uint64_t connections_ = 0;                 ///< that the session knows of
  core::Channel<std::function<void()>> notices_;  ///< progress, from the worker
  std::optional<core::ProgressBoard::Bar> bar_;
  core::TrainingNote note_;
  core::SystemClock clock_;
  core::Instant last_progress_{};
  std::optional<wire::Progress> progress_;  ///< the newest that was not told yet
  CoordinatorWatch watch_;
  core::WorkerPool worker_;       ///< last, with the next: their threads use everything above
  core::WorkerPool disk_worker_;  ///< apart: versions are fetched while a stopped training ends
};

Runtime::Runtime(const core::Config& config, const std::string& device, core::ProgressBoard& board,
                 std::stop_token stop)
    : config_(config),
      board_(board),
      stop_(std::move(stop)),
      identity_(crypto::load_identity(config.security.identity)),
      coordinator_(crypto::load_public_identity(config.security.coordinator_key)),
      name_(identity_.public_part.name),
      instance_(draw_instance()),
      workbench_(make_workbench(config, device, name_)),
      session_(session_settings(), contract(), identity_, workbench_->pristine()),
      disk_({.blobs = config.output.dir / "blobs", .contract = config.output.dir / kContractFile},
            session_.contract()),
      transport_(config.security.coordinator, identity_, coordinator_.curve),
      watch_({.client = name_,
              .address = config.security.coordinator,
              .give_up_after =
                  session_.has_seen_the_end() ? core::Instant{} : config.client.give_up_after},
             clock_.now()),
      worker_(1, {.on_thread_start = {}, .on_finished = [this] { transport_.wake(); }}),
      disk_worker_(1, {.on_thread_start =
                           [own = tensors::threads_in_use()] {
                             tensors::use_threads(own);  // the number is part of a version's bits
                           },
                       .on_finished = {}}) {}

SessionSettings Runtime::session_settings() {
  const bool trains = !config_.data.train.empty();
  const bool tells_all = config_.client.reveal == "full";
  const auto examples =
      trains ? static_cast<std::uint64_t>(workbench_->num_examples(name_)) : std::uint64_t{0};
  return {.coordinator_signing = coordinator_.signing,
          .hello = {.software = "drystone " + core::version(),
                    .base_sha256 = workbench_->base_sha256(),
                    .device = workbench_->device(),
                    .num_examples = tells_all ? examples : coarse_count(examples),
                    .base = config_.model.quantization,
                    .instance = instance_}};
}

Contract Runtime::contract() {
  core::Config config = config_;
  config.data.labels = workbench_config(config_, "cpu").labels;
  ContractTerms terms = terms_of(config, {name_, config_.training, config_.model.quantization},
                                 config_.federation.layout.empty()
                                     ? workbench_->layout({config_.training}, {})
                                     : aggregation::read_layout(config_.federation.layout));
  terms.trains = !config_.data.train.empty();
  const core::ListedClient own[] = {{name_, config_.training, config_.model.quantization}};
  if (terms.trains) check_ranks(config_, own, *terms.layout);
  terms.evaluates = !config_.data.test.empty();
  if (terms.trains) {
    terms.num_examples = workbench_->num_examples(name_);
    terms.num_steps = training::num_steps(config_.training, terms.num_examples);
  }
  return {std::move(terms), config_.output.dir / kContractFile};
}

RunEnd Runtime::run() {
  const bool had_seen_the_end = session_.has_seen_the_end();
  core::log_info("connecting", {{"client", std::string_view(name_)},
                                {"coordinator", std::string_view(config_.security.coordinator)},
                                {"device", std::string_view(session_settings().hello.device)}});
  const core::Instant started = clock_.now();
  bool is_over = false;
  while (!is_over && !stop_.stop_requested()) {
    pump();
    is_over = session_.is_done() || (had_seen_the_end && clock_.now() - started >= kLastLook);
  }
  if (is_over && had_seen_the_end) tell_seen_before();
  return is_over ? RunEnd::Done : RunEnd::Stopped;
}

void Runtime::tell_seen_before() const {
  const std::string contract = (config_.output.dir / kContractFile).string();
  core::log_info("every version was followed before; to take part anew, remove the contract",
                 {{"client", std::string_view(name_)}, {"contract", std::string_view(contract)}});
}

std::string Runtime::why_unreachable() const {
  std::string problem = wire::connection_problem(config_.security.coordinator, 1s);
  if (!problem.empty()) return problem;
  const std::string& last = transport_.last_failure();
  return last.empty() ? "no answer" : last;
}

void Runtime::pump() {
  if (!session_.is_busy()) receive();
  if (session_.is_busy()) work_on_disk();
  watch_.update(transport_.is_connected(), clock_.now(), [this] { return why_unreachable(); });
  worker_.run_finished(0ms);
  while (const auto notice = notices_.try_receive()) (*notice)();
  for (const wire::Verdict& verdict : session_.take_verdicts()) show(verdict);
  if (auto job = session_.take_job()) compute(std::move(*job));
  flush();
}

// Not more than a handful at a time, and none while answers wait: a flood keeps itself waiting, not
// the work, nor the signal to stop.
void Runtime::receive() {
  constexpr int kAtOnce = 64;
  constexpr std::size_t kMaxBacklog = 64;
  greet_if_new();  // seen while sending: a message may be here already
  for (int i = 0; i < kAtOnce && session_.backlog() < kMaxBacklog && !session_.is_busy(); ++i) {
    auto message = transport_.receive(i == 0 ? 100ms : 0ms);
    greet_if_new();  // seen while receiving: then there is no message
    if (!message) return;
    if (*message) {
      session_.on_message(std::move(**message));
    } else {
      core::log_warning("unreadable message from the coordinator; do both run the same version?",
                        {{"detail", std::string_view(message->error().detail)}});
    }
  }
  if (session_.backlog() >= kMaxBacklog) core::sleep_unless_stopped(stop_, 20ms);
}

void Runtime::greet_if_new() {
  if (is_greeted()) return;
  connections_ = transport_.connections();
  session_.on_connected();
}

void Runtime::work_on_disk() {
  while (auto job = session_.take_disk_job()) {
    disk_worker_.post([this, job = std::move(*job)]() -> core::WorkerPool::Continuation {
      auto result = std::make_shared<DiskResult>(disk_.run(job));
      return [this, result] { session_.on_disk(std::move(*result)); };
    });
  }
  disk_worker_.run_finished(100ms);
}

void Runtime::flush() {
  while (transport_.can_send() && is_greeted()) {
    auto message = session_.next_message();
    if (!message) break;
    transport_.send(std::move(*message));
  }
  if (progress_ && transport_.can_send() && is_greeted()) {
    transport_.send(*std::exchange(progress_, std::nullopt));
  }
}

void Runtime::compute(Job job) {
  const bool evaluates = std::holds_alternative<EvaluateJob>(job);
  bar_.reset();
  const JobSettings settings{.client = name_,
                             .training = config_.training,
                             .test = kTestExamples,
                             .memory = config_.output.dir / "memory",
                             .reveals_everything = config_.client.reveal == "full"};
  worker_.post([this, settings, evaluates,
                job = std::move(job)]() mutable -> core::WorkerPool::Continuation {
    const auto on_progress = [this, evaluates](const wire::Progress& progress) {
      notices_.send([this, evaluates, progress] { show(progress, evaluates); });
    };
    try {
      auto result = std::make_shared<JobResult>(run_job(*workbench_, settings, job, on_progress));
      return [this, result] {
        bar_.reset();
        deliver(session_, std::move(*result));
      };
    } catch (...) {
      return [this, job = std::move(job), error = std::current_exception()] { end(job, error); };
    }
  });
}

// Out of memory, a disk that is full: the coordinator need not wait for the round's deadline.
void Runtime::end(const Job& job, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& reason) {
    const std::string text = reason.what();
    session_.on_failed(job, text.substr(0, text.find('\n')));
    flush();
    core::sleep_unless_stopped(stop_, 200ms);  // a socket that closes keeps nothing back
    throw;
  }
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
  progress_ = config_.client.reveal == "full" ? progress : coarse(progress);
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
