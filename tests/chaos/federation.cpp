#include "tests/chaos/federation.h"

#include <map>
#include <tuple>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "aggregation/rules.h"
#include "aggregation/version_checks.h"
#include "coordinator/federation_id.h"
#include "core/seed.h"
#include "models/model.h"

namespace drystone::chaos {

namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kLargeRank = 4;
const std::string kFirst = "layer.0.query";
const std::string kSecond = "layer.0.value";
const std::string kHead = "classifier.weight";

at::Tensor made(core::SplitMix64& random, at::IntArrayRef shape) {
  at::Tensor values = at::empty(shape, at::kFloat);
  auto* data = values.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    data[i] = static_cast<float>(random.uniform() - 0.5);
  }
  return values;
}

std::int64_t first_out(bool is_large) { return is_large ? 140'000 : 12; }
std::int64_t first_in(bool is_large) { return is_large ? 4 : 8; }

/// Only what GlobalState asks of a model.
class MadeModel final : public models::Model {
 public:
  explicit MadeModel(bool is_large) {
    core::SplitMix64 random({7, 0, "", "model"});
    first_.name = kFirst;
    first_.weight = made(random, {first_out(is_large), first_in(is_large)});
    second_.name = kSecond;
    second_.weight = made(random, {6, 12});
    head_ = made(random, {3, 6});
  }
  at::Tensor logits(const models::Batch& /*batch*/) override { return {}; }
  at::Tensor loss(const at::Tensor& /*logits*/, const models::Batch& /*batch*/) const override {
    return {};
  }
  std::vector<models::Linear*> linears() override { return {&first_, &second_}; }
  std::map<std::string, at::Tensor*> dense() override { return {{kHead, &head_}}; }
  void set_training(bool /*on*/, std::uint64_t /*seed*/) override {}

 private:
  models::Linear first_;
  models::Linear second_;
  at::Tensor head_;
};

MadeModel& model(bool is_large) {
  static MadeModel small(false);
  static MadeModel large(true);
  return is_large ? large : small;
}

}  // namespace

std::string client_name(int number) { return "client-" + std::to_string(number); }

const crypto::Identity& identity_of(const std::string& name) {
  static std::map<std::string, crypto::Identity> identities;
  auto found = identities.find(name);
  if (found == identities.end()) {
    found = identities.emplace(name, crypto::derive_identity(name, core::as_bytes("chaos"))).first;
  }
  return found->second;
}

Federation make_federation(const Schedule& schedule) {
  Federation made;
  core::Config& config = made.config;
  config.name = "chaos";
  config.seed = schedule.seed % 5;
  config.model.sha256 = std::string(64, 'a');
  config.federation.rounds = schedule.rounds;
  config.federation.quorum = schedule.quorum;
  config.federation.cohort = schedule.cohort;
  config.federation.over_selection = schedule.over_selection;
  config.federation.deadline = 60s;
  config.federation.grace = 10s;
  config.output.keep_updates = schedule.keeps_updates;
  config.aggregation.compaction = schedule.compaction;
  if (schedule.compaction == "tolerance") config.aggregation.tolerance = 0.3;
  for (int i = 1; i <= schedule.clients; ++i) {
    made.names.push_back(client_name(i));
    made.roster.clients[client_name(i)] = {.identity = identity_of(client_name(i)).public_part,
                                           .role = crypto::Role::Train,
                                           .max_rank = kLargeRank,
                                           .max_examples = 100,
                                           .has_own_settings = true};
  }
  if (schedule.has_evaluator) {
    made.names.push_back(kEvaluator);
    made.roster.clients[kEvaluator] = {.identity = identity_of(kEvaluator).public_part,
                                       .role = crypto::Role::Evaluate};
  }
  for (const models::Linear* linear : model(schedule.has_large_payloads).linears()) {
    made.layout.modules[linear->name] = {linear->out_features(), linear->in_features()};
  }
  made.layout.dense[kHead] = {3, 6};
  return made;
}

training::GlobalStatePtr pristine_state(bool is_large) {
  static std::map<bool, training::GlobalStatePtr> states;
  training::GlobalStatePtr& state = states[is_large];
  if (!state) state = training::GlobalState::pristine(model(is_large));
  return state;
}

const tensors::FactorSet& initial_version(bool is_large) {
  static std::map<bool, tensors::FactorSet> versions;
  tensors::FactorSet& version = versions[is_large];
  if (version.dense.empty()) version.dense[kHead] = at::zeros({3, 6});
  return version;
}

const training::LocalResult& made_result(bool is_large, std::uint64_t round, int number) {
  static std::map<std::tuple<bool, std::uint64_t, int>, training::LocalResult> results;
  const auto [found, is_new] = results.try_emplace({is_large, round, number});
  training::LocalResult& result = found->second;
  if (!is_new) return result;
  core::SplitMix64 random({11, round, client_name(number), "update"});
  const std::int64_t rank = is_large ? kLargeRank : 1 + number % 2;
  for (const models::Linear* linear : model(is_large).linears()) {
    result.update.modules[linear->name] = {.b = made(random, {linear->out_features(), rank}),
                                           .a = made(random, {rank, linear->in_features()})};
  }
  result.update.dense[kHead] = made(random, {3, 6});
  result.num_examples = 10 + 7 * number;
  result.num_steps = result.num_passes = 3;
  result.num_tokens = 30;
  result.train_loss = 1.0;
  return result;
}

client::Pinned pinned(const Federation& federation) {
  return {.federation = coordinator::federation_id(federation.config),
          .max_rank = kLargeRank * static_cast<std::int64_t>(federation.names.size())};
}

client::ContractTerms terms_of(const Federation& federation, int number) {
  const core::Config& config = federation.config;
  const std::string& name = federation.names.at(static_cast<std::size_t>(number - 1));
  const bool trains = name != kEvaluator;
  return {.client = name,
          .rounds = static_cast<std::uint64_t>(config.federation.rounds),
          .seed = config.seed,
          .start = aggregation::start_of(config.aggregation),
          .mode = aggregation::find_rule(config.aggregation).mode,
          .settings = "chaos",
          .trains = trains,
          .evaluates = !trains,
          .num_examples = 10 + 7 * number,
          .num_steps = 3,
          .layout = std::make_shared<aggregation::AdapterLayout>(
              aggregation::version_layout(federation.layout)),
          .export_rank = kLargeRank};
}

}  // namespace drystone::chaos
