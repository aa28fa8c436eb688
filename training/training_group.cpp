#include "training/training_group.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "adapters/adapter_group.h"
#include "adapters/side_path.h"
#include "core/check.h"
#include "core/error.h"
#include "core/log.h"
#include "data/batches.h"
#include "training/gradient_passes.h"
#include "training/local_training.h"
#include "training/trainer.h"
#include "training/turn.h"

namespace drystone::training {

namespace {

struct Member {
  const GroupTask* task;
  GroupOutcome* outcome;
  std::unique_ptr<LocalTraining> training;
  const MicroBatches* batches = nullptr;  ///< of the step under way
  Losses losses = {};
};

/// A client's own failure; anything else ends all.
template <typename Work>
void attempt(GroupOutcome* outcome, const Work& work) {
  try {
    work();
  } catch (const core::Error&) {
    outcome->failure = std::current_exception();
  }
}

class Group {
 public:
  Group(models::Model& model, std::vector<Member> members)
      : model_(model), members_(std::move(members)) {}

  void run() {
    const at::AutoGradMode with_gradients(true);
    while (true) {
      std::erase_if(members_, [](Member& member) { return leaves(member); });
      if (members_.empty()) return;
      const RoundTask& task = members_.front().task->task;
      const Turn turn(model_, *task.state);
      model_.set_bfloat16(task.training.config.precision == "bfloat16");
      std::vector<adapters::GroupMember> parts;
      for (Member& member : members_) parts.push_back(member.training->member());
      adapters::AdapterGroup attached(model_, parts);
      while (step(attached)) continue;
    }
  }

 private:
  /// Whether its training is over, one way or the other.
  static bool leaves(Member& member) {
    if (member.outcome->failure != nullptr || member.task->hooks.stop.stop_requested()) return true;
    if (!member.training->is_over()) return false;
    attempt(member.outcome, [&] { member.outcome->result = member.training->finish(); });
    return true;
  }

  /// @return  everybody has another step
  bool step(adapters::AdapterGroup& attached) {
    std::size_t num_passes = 0;
    for (Member& member : members_) {
      member.losses = {};
      member.batches = &member.training->begin_step();
      num_passes = std::max(num_passes, member.batches->size());
    }
    for (std::size_t pass = 0; pass < num_passes; ++pass) add_gradients(pass, attached);
    bool all_stay = true;
    for (Member& member : members_) {
      attempt(member.outcome, [&] {
        const TrainProgress progress = member.training->end_step(member.losses);
        if (member.task->hooks.on_progress) member.task->hooks.on_progress(progress);
      });
      all_stay = all_stay && member.outcome->failure == nullptr && !member.training->is_over() &&
                 !member.task->hooks.stop.stop_requested();
    }
    return all_stay;
  }

  /// Of every member's micro-batch of that number, where it has one.
  void add_gradients(std::size_t pass, adapters::AdapterGroup& attached) {
    const models::Task task = members_.front().task->examples.task;
    std::vector<const data::EncodedBatch*> batches;
    std::vector<std::int64_t> rows;
    std::vector<std::int64_t> tokens;
    std::vector<std::int64_t> targets;
    for (const Member& member : members_) {
      const bool has = pass < member.batches->size();
      if (has) batches.push_back(&(*member.batches)[pass]);
      rows.push_back(has ? batches.back()->rows : 0);
      targets.push_back(has ? num_targets(*batches.back(), task) : 0);
      std::int64_t own = 0;
      if (has)
        for (const std::int64_t length : batches.back()->lengths) own += length;
      tokens.push_back(own);
    }
    adapters::RowSplit split;
    split.add(tokens);
    split.add(task == models::Task::CausalLm ? targets : rows);
    attached.set_rows(std::move(split));
    const models::Batch batch =
        to_tensors(data::join_rows(batches, members_.front().task->examples.pad), task);
    const at::Tensor losses = model_.group_losses(batch, rows);
    at::Tensor sum;
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (rows[i] == 0) continue;
      Member& member = members_[i];
      const double share =
          static_cast<double>(targets[i]) / static_cast<double>(num_targets(*member.batches, task));
      const at::Tensor loss = losses[static_cast<std::int64_t>(i)];
      adapters::add_term(member.losses.task, loss.detach().to(at::kDouble) * share);
      adapters::add_term(sum, loss * share);
      const at::Tensor extra = member.training->extra_loss(batch);
      if (!extra.defined()) continue;
      adapters::add_term(member.losses.extra, extra.detach().to(at::kDouble) * share);
      adapters::add_term(sum, extra * share);
    }
    sum.backward();
  }

  models::Model& model_;
  std::vector<Member> members_;
};

}  // namespace

std::vector<GroupOutcome> train_group(models::Model& model, const std::vector<GroupTask>& tasks,
                                      std::int64_t base_bytes) {
  std::vector<GroupOutcome> outcomes(tasks.size());
  std::vector<Member> members;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const TrainingSite site{
        .model = model, .examples = tasks[i].examples, .base_bytes = base_bytes};
    attempt(&outcomes[i], [&] {
      auto training = std::make_unique<LocalTraining>(tasks[i].task, site);
      training->detach();
      if (training->shares_passes()) {
        members.push_back({&tasks[i], &outcomes[i], std::move(training)});
        return;
      }
      training.reset();
      if (tasks[i].task.round <= 1) {
        core::log_info("trains alone: its passes cannot be shared",
                       {{"client", std::string_view(tasks[i].task.client)},
                        {"method", std::string_view(tasks[i].task.training.config.method)}});
      }
      outcomes[i].result = train_locally(tasks[i].task, site, tasks[i].hooks);
    });
  }
  Group(model, std::move(members)).run();
  return outcomes;
}

}  // namespace drystone::training
