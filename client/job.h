#pragma once
// Carries out a session's jobs: the one place where protocol and computing meet.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "client/session.h"
#include "training/workbench.h"

namespace drystone::client {

/// Who computes, and with what.
struct JobSettings {
  std::string client;  ///< names the shard in the workbench and keys the randomness
  core::TrainingConfig training;
  std::string test;                   ///< name of the evaluation examples in the workbench
  std::filesystem::path memory = {};  ///< folder of the client's own memory; see ClientMemory
  bool reveals_everything = true;     ///< see UpdateTerms
};

/// Told after every step (training) or batch (evaluation), on the computing thread; may be empty.
using ProgressHook = std::function<void(wire::Progress)>;

struct JobResult {
  Job job;
  std::optional<Update> trained;  ///< empty: evaluated, or stopped
  std::optional<training::Evaluation> evaluated;
  std::string failure = {};  ///< why the training ended without an update; empty: it did not
};

/// Computes on the calling thread with `training.threads` threads. A training that fails by its own
/// numbers is a result: see JobResult::failure. @throws core::Error  anything else
JobResult run_job(const training::Workbench& workbench, const JobSettings& settings, Job job,
                  const ProgressHook& on_progress);

/// One of several trainings that are carried out together; all borrowed but the job.
struct GroupJob {
  const JobSettings& settings;
  TrainJob job;
  ProgressHook on_progress;
};

/// Whether it is of use to train a client with these settings in a group: elsewhere it would take
/// its turn there, and keep a core from its neighbours.
bool may_group(const training::Workbench& workbench, const core::TrainingConfig& training);
/// Whether clients with these settings may train in one group: its passes are of one precision, and
/// their numbers of threads fix the bits.
bool can_group(const core::TrainingConfig& one, const core::TrainingConfig& other);

/// As run_job for each of them, whose plans have one base version.
std::vector<JobResult> run_jobs(const training::Workbench& workbench, std::vector<GroupJob> jobs);

/// Hands a result to the session that asked for it.
void deliver(Session& session, JobResult result);

}  // namespace drystone::client
