#include "client/job.h"

#include <utility>

#include "aggregation/rules.h"
#include "client/client_memory.h"
#include "tensors/threads.h"

namespace drystone::client {

namespace {

JobResult train(const training::Workbench& workbench, const JobSettings& settings, TrainJob job,
                const ProgressHook& on_progress) {
  training::TrainHooks hooks{.on_progress = {}, .stop = job.stop};
  if (on_progress) {
    hooks.on_progress = [&, round = job.plan.round](const training::TrainProgress& progress) {
      on_progress({.round = round,
                   .step = static_cast<std::uint64_t>(progress.step),
                   .num_steps = static_cast<std::uint64_t>(progress.num_steps),
                   .loss = progress.loss,
                   .num_tokens = static_cast<std::uint64_t>(progress.num_tokens),
                   .peak_bytes = workbench.peak_memory()});
    };
  }
  const ClientMemory memory(settings.memory, job.plan.federation);
  const auto remembered = memory.before(job.plan.round);
  auto trained = workbench.train({.seed = job.plan.seed,
                                  .round = job.plan.round,
                                  .rounds = job.rounds,
                                  .client = settings.client,
                                  .training = adapters::resolve(settings.training),
                                  .state = job.state,
                                  .memory = &remembered,
                                  .common_start = job.plan.start == aggregation::kCommonStart},
                                 hooks);
  if (!trained) return {.job = std::move(job), .trained = {}, .evaluated = {}};
  if (!trained->memory.empty()) memory.keep(job.plan.round, trained->memory);
  Update update = make_update(*trained, job.plan,
                              {.client = settings.client,
                               .method = settings.training.method,
                               .reveals_everything = settings.reveals_everything});
  return {.job = std::move(job), .trained = std::move(update), .evaluated = {}};
}

JobResult run(const training::Workbench& workbench, const JobSettings& settings, TrainJob job,
              const ProgressHook& on_progress) {
  try {
    return train(workbench, settings, job, on_progress);
  } catch (const training::TrainingFailed& failure) {
    return {.job = std::move(job), .trained = {}, .evaluated = {}, .failure = failure.what()};
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

void deliver(Session& session, JobResult result) {
  if (!result.failure.empty()) return session.on_failed(result.job, result.failure);
  if (auto* train = std::get_if<TrainJob>(&result.job)) {
    session.on_trained(*train, std::move(result.trained));
  } else {
    session.on_evaluated(std::get<EvaluateJob>(result.job), std::move(result.evaluated));
  }
}

}  // namespace drystone::client
