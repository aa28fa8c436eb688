#include "client/job.h"

#include <deque>
#include <exception>
#include <map>
#include <utility>

#include "aggregation/rules.h"
#include "client/client_memory.h"
#include "tensors/threads.h"

namespace drystone::client {

namespace {

/// A training on its way through the workbench.
struct Training {
  Training(const training::Workbench& workbench, const JobSettings& job_settings, TrainJob train,
           const ProgressHook& on_progress)
      : settings(job_settings),
        job(std::move(train)),
        memory(settings.memory, job.plan->federation),
        remembered(memory.before(job.plan->round)),
        hooks{.on_progress = {}, .stop = job.stop} {
    if (!on_progress) return;
    hooks.on_progress = [&workbench, &on_progress,
                         round = job.plan->round](const training::TrainProgress& progress) {
      on_progress({.round = round,
                   .step = static_cast<std::uint64_t>(progress.step),
                   .num_steps = static_cast<std::uint64_t>(progress.num_steps),
                   .loss = progress.loss,
                   .num_tokens = static_cast<std::uint64_t>(progress.num_tokens),
                   .peak_bytes = workbench.peak_memory()});
    };
  }
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

  training::RoundTask task() const {
    return {.seed = job.plan->seed,
            .round = job.plan->round,
            .rounds = job.rounds,
            .client = settings.client,
            .training = adapters::resolve(settings.training),
            .state = job.state,
            .memory = &remembered,
            .common_start = job.plan->start == aggregation::kCommonStart};
  }

  JobResult end(const std::optional<training::LocalResult>& trained) {
    if (!trained) return {.job = std::move(job), .trained = {}, .evaluated = {}};
    if (!trained->memory.empty()) memory.keep(job.plan->round, trained->memory);
    Update update = make_update(*trained, *job.plan,
                                {.client = settings.client,
                                 .method = settings.training.method,
                                 .reveals_everything = settings.reveals_everything});
    return {.job = std::move(job), .trained = std::move(update), .evaluated = {}};
  }
  JobResult fail(const training::TrainingFailed& failure) {
    return {.job = std::move(job), .trained = {}, .evaluated = {}, .failure = failure.what()};
  }

  const JobSettings& settings;
  TrainJob job;
  ClientMemory memory;
  std::map<std::string, at::Tensor> remembered;
  training::TrainHooks hooks;
};

JobResult run(const training::Workbench& workbench, const JobSettings& settings, TrainJob job,
              const ProgressHook& on_progress) {
  Training training(workbench, settings, std::move(job), on_progress);
  try {
    return training.end(workbench.train(training.task(), training.hooks));
  } catch (const training::TrainingFailed& failure) {
    return training.fail(failure);
  }
}

JobResult run(const training::Workbench& workbench, const JobSettings& settings, EvaluateJob job,
              const ProgressHook& on_progress) {
  training::EvaluateHooks hooks{.on_progress = {}, .stop = job.stop};
  if (on_progress) {
    hooks.on_progress = [&, version = job.version](std::int64_t done, std::int64_t total) {
      on_progress({.round = version,
                   .step = static_cast<std::uint64_t>(done),
                   .num_steps = static_cast<std::uint64_t>(total),
                   .loss = 0.0});
    };
  }
  auto evaluated = workbench.evaluate(*job.state, settings.test, hooks);
  return {.job = std::move(job), .trained = {}, .evaluated = std::move(evaluated)};
}

}  // namespace

JobResult run_job(const training::Workbench& workbench, const JobSettings& settings, Job job,
                  const ProgressHook& on_progress) {
  tensors::use_threads(static_cast<int>(settings.training.threads));
  return std::visit([&](auto& j) { return run(workbench, settings, std::move(j), on_progress); },
                    job);
}

bool may_group(const training::Workbench& workbench, const core::TrainingConfig& training) {
  const adapters::Method& method = adapters::find_method(training.method);
  const bool is_plain = !training.checkpointing && training.memory_limit == 0;
  return method.trains && method.inner == nullptr && is_plain && !workbench.has_dropout();
}

bool can_group(const core::TrainingConfig& one, const core::TrainingConfig& other) {
  return one.precision == other.precision && one.threads == other.threads;
}

std::vector<JobResult> run_jobs(const training::Workbench& workbench, std::vector<GroupJob> jobs) {
  std::deque<Training> trainings;
  std::vector<training::Workbench::GroupTraining> group;
  for (GroupJob& job : jobs) {
    const Training& training =
        trainings.emplace_back(workbench, job.settings, std::move(job.job), job.on_progress);
    group.push_back({training.task(), training.hooks});
  }
  const std::vector<training::GroupOutcome> outcomes = workbench.train_group(group);
  std::vector<JobResult> results;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    try {
      if (outcomes[i].failure != nullptr) std::rethrow_exception(outcomes[i].failure);
      results.push_back(trainings[i].end(outcomes[i].result));
    } catch (const training::TrainingFailed& failure) {
      results.push_back(trainings[i].fail(failure));
    }
  }
  return results;
}

void deliver(Session& session, JobResult result) {
  if (!result.failure.empty()) return session.on_failed(result.job, result.failure);
  if (auto* train = std::get_if<TrainJob>(&result.job)) {
    session.on_trained(*train, std::move(result.trained));
  } else {
    session.on_evaluated(std::get<EvaluateJob>(result.job), std::move(result.evaluated));
  }
}

}  // namespace drystone::client
