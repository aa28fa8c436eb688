#include "training/ensemble.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensors/member_names.h"
#include "training/trainer.h"

namespace drystone::training {

namespace {

/// One member's training reports its steps among those of all.
TrainHooks hooks_of(const TrainHooks& hooks, std::size_t place, std::size_t count) {
  if (!hooks.on_progress) return hooks;
  return {.on_progress =
              [&hooks, place, count](TrainProgress progress) {
                progress.step += static_cast<std::int64_t>(place) * progress.num_steps;
                progress.num_steps *= static_cast<std::int64_t>(count);
                hooks.on_progress(progress);
              },
          .stop = hooks.stop};
}

EarlyStoppingSettings stopping_of(const adapters::EnsembleSettings& settings) {
  return {.share = settings.stop_share,
          .every = settings.stop_every,
          .patience = settings.stop_patience};
}

using Memory = std::map<std::string, at::Tensor>;

/// What one member's last training left.
Memory memory_of(const RoundTask& task, std::int64_t member) {
  Memory own;
  if (task.memory == nullptr) return own;
  for (const auto& [full_name, tensor] : *task.memory) {
    const auto name = tensors::split_member(full_name);
    if (name && name->member == member) own.emplace(name->name, tensor);
  }
  return own;
}

void add(LocalResult& sum, std::int64_t member, LocalResult part, std::size_t count) {
  tensors::add_member(sum.update, member, part.update);
  for (auto& [name, tensor] : part.memory) {
    sum.memory[tensors::member_name(member, name)] = std::move(tensor);
  }
  sum.num_examples = part.num_examples;
  sum.num_steps += part.num_steps;
  sum.num_tokens += part.num_tokens;
  sum.num_passes += part.num_passes;
  sum.train_loss += part.train_loss / static_cast<double>(count);
  sum.seconds += part.seconds;
}

}  // namespace

std::optional<LocalResult> train_ensemble(const RoundTask& task, const TrainingSite& site,
                                          const adapters::EnsembleSettings& settings,
                                          const TrainHooks& hooks) {
  RoundTask own = task;
  own.early_stopping = stopping_of(settings);
  if (!settings.is_forked(task.round)) return train_locally(own, site, hooks);
  const std::vector<std::int64_t> members = settings.members_of(task.seed, task.client);
  LocalResult sum;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const Memory memory = memory_of(task, members[i]);
    own.state = task.state->member(members[i]);
    own.seed = adapters::member_seed(task.seed, members[i]);
    own.memory = &memory;
    auto trained = train_locally(own, site, hooks_of(hooks, i, members.size()));
    if (!trained) return std::nullopt;
    add(sum, members[i], *std::move(trained), members.size());
  }
  return sum;
}

}  // namespace drystone::training
