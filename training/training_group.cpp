#include "training/training_group.h"

#include <algorithm>
#include <memory>
#include <numeric>
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

/// What one pass takes of all members; 0 of one that has no micro-batch left.
struct Parts {
  std::vector<const data::EncodedBatch*> batches;
  std::vector<std::int64_t> rows;
  std::vector<std::int64_t> tokens;
  std::vector<std::int64_t> targets;
};

const data::EncodedBatch kNothing;

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
    while (true) {
      std::erase_if(members_, [](Member& member) { return leaves(member); });
      if (members_.empty()) return;
      const RoundTask& task = members_.front().task->task;
      const Turn turn(model_, *task.state);
      model_.set_bfloat16(task.training.config.precision == "bfloat16");
      std::vector<adapters::GroupMember> parts;
      parts.reserve(members_.size());
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

  /// Every member's micro-batch of that number, where it has one.
  Parts parts_of(std::size_t pass) const {
    const models::Task task = members_.front().task->examples.task;
    Parts parts;
    for (const Member& member : members_) {
      const bool has = pass < member.batches->size();
      const data::EncodedBatch& own = has ? (*member.batches)[pass] : kNothing;
      if (has) parts.batches.push_back(&own);
      parts.rows.push_back(own.rows);
      parts.targets.push_back(num_targets(own, task));
      parts.tokens.push_back(
          std::accumulate(own.lengths.begin(), own.lengths.end(), std::int64_t{0}));
    }
    return parts;
  }

  void add_gradients(std::size_t pass, adapters::AdapterGroup& attached) {
    const Examples& examples = members_.front().task->examples;
    const Parts parts = parts_of(pass);
    adapters::RowSplit split;
    split.add(parts.tokens);
    split.add(examples.task == models::Task::CausalLm ? parts.targets : parts.rows);
    attached.set_rows(std::move(split));
    const models::Batch batch =
        to_tensors(data::join_rows(parts.batches, examples.pad), examples.task);
    const at::Tensor losses = model_.group_losses(batch, parts.rows);
    at::Tensor sum;
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (parts.rows[i] == 0) continue;
      const auto all = static_cast<double>(num_targets(*members_[i].batches, examples.task));
      add_losses(members_[i], losses[static_cast<std::int64_t>(i)], batch,
                 static_cast<double>(parts.targets[i]) / all, sum);
    }
    sum.backward();
  }

  /// @param share  of the member's step that this pass is  @param sum  of all members
  static void add_losses(Member& member, const at::Tensor& loss, const models::Batch& batch,
                         double share, at::Tensor& sum) {
    adapters::add_term(member.losses.task, loss.detach().to(at::kDouble) * share);
    adapters::add_term(sum, loss * share);
    const at::Tensor extra = member.training->extra_loss(batch);
    if (!extra.defined()) return;
    adapters::add_term(member.losses.extra, extra.detach().to(at::kDouble) * share);
    adapters::add_term(sum, extra * share);
  }

  models::Model& model_;
  std::vector<Member> members_;
};

}  // namespace

std::vector<GroupOutcome> train_group(models::Model& model, const std::vector<GroupTask>& tasks,
                                      std::int64_t base_bytes) {
  const at::AutoGradMode with_gradients(true);
  std::vector<GroupOutcome> outcomes(tasks.size());
  std::vector<Member> members;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const TrainingSite site{
        .model = model, .examples = tasks[i].examples, .base_bytes = base_bytes};
    attempt(&outcomes[i], [&] {
      auto training = std::make_unique<LocalTraining>(tasks[i].task, site);
      if (training->shares_passes()) {
        training->detach();
        members.push_back({&tasks[i], &outcomes[i], std::move(training)});
        return;
      }
      if (tasks[i].task.round <= 1) {
        core::log_info("trains alone: its passes cannot be shared",
                       {{"client", std::string_view(tasks[i].task.client)},
                        {"method", std::string_view(tasks[i].task.training.config.method)}});
      }
      outcomes[i].result = train_to_end(*training, tasks[i].hooks);
    });
  }
  Group(model, std::move(members)).run();
  return outcomes;
}

}  // namespace drystone::training
