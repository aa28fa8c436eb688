#include "training/ensemble.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tensors/member_names.h"

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
Memory memory_of(const TrainInput& input, std::int64_t member) {
  Memory own;
  if (input.memory == nullptr) return own;
  for (const auto& [full_name, tensor] : *input.memory) {
    const auto name = tensors::split_member(full_name);
    if (name && name->member == member) own.emplace(name->name, tensor);
  }
  return own;
}

TrainInput with(const TrainInput& input, const GlobalState& state, std::uint64_t seed,
                const Memory* memory, const EarlyStoppingSettings& stopping) {
  return {.model = input.model,
          .state = state,
          .training = input.training,
          .examples = input.examples,
          .seed = seed,
          .round = input.round,
          .rounds = input.rounds,
          .client = input.client,
          .base_bytes = input.base_bytes,
          .memory = memory,
          .common_start = input.common_start,
          .early_stopping = stopping};
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

std::optional<LocalResult> train_ensemble(const TrainInput& input,
                                          const adapters::EnsembleSettings& settings,
                                          const TrainHooks& hooks) {
  const EarlyStoppingSettings stopping = stopping_of(settings);
  if (!settings.is_forked(input.round)) {
    return train_locally(with(input, input.state, input.seed, input.memory, stopping), hooks);
  }
  const std::vector<std::int64_t> members = settings.members_of(input.seed, input.client);
  LocalResult sum;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const GlobalStatePtr state = input.state.member(members[i]);
    const std::uint64_t seed = adapters::member_seed(input.seed, members[i]);
    const Memory memory = memory_of(input, members[i]);
    auto trained = train_locally(with(input, *state, seed, &memory, stopping),
                                 hooks_of(hooks, i, members.size()));
    if (!trained) return std::nullopt;
    add(sum, members[i], *std::move(trained), members.size());
  }
  return sum;
}

}  // namespace drystone::training
