#include "training/workbench.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "adapters/methods/lora_ensemble.h"
#include "adapters/registry.h"
#include "core/check.h"
#include "core/error.h"
#include "core/log.h"
#include "core/regular_file.h"
#include "core/text.h"
#include "crypto/hash.h"
#include "data/label_map.h"
#include "data/labelled_encoder.h"
#include "data/lost_tokens.h"
#include "models/device.h"
#include "models/load.h"
#include "tensors/member_names.h"
#include "tensors/threads.h"
#include "text/tokenizer.h"
#include "training/ensemble.h"
#include "training/input_checks.h"
#include "training/member_evaluation.h"

namespace drystone::training {

namespace {

models::ModelSpec spec_of(const WorkbenchConfig& config) {
  const models::Task task = models::parse_task(config.model.task);
  const bool classifies = task == models::Task::Classification;
  if (classifies && config.labels.size() < 2) {
    throw core::ConfigError("data.labels: classification needs at least two classes");
  }
  return {.folder = config.model.path,
          .task = task,
          .num_labels = classifies ? static_cast<std::int64_t>(config.labels.size()) : 1,
          .seed = config.seed,
          .dtype = models::parse_dtype(config.model.dtype),
          .quantization = models::parse_quantization(config.model.quantization),
          .device = models::parse_device(config.device)};
}

void absorb(crypto::Sha256& hash, const std::filesystem::path& file) {
  core::RegularFile stream(file, core::kMostMappedBytes);
  core::Bytes buffer(1 << 20);
  std::size_t count = buffer.size();
  while (count == buffer.size()) {
    count = stream.read(buffer);
    hash.update(core::ByteView(buffer).first(count));
  }
}

std::string sha256_of(const models::ModelSpec& spec, const models::Base& base) {
  crypto::Sha256 hash;
  absorb(hash, spec.folder / "config.json");
  for (const std::filesystem::path& file : base.files) absorb(hash, file);
  return core::to_hex(hash.finish());
}

/// The base's, and each member's.
double norm_of(const models::Linear& linear) {
  double squares = 0.0;
  linear.frozen()->visit_rows([&](std::int64_t, const at::Tensor& rows) {
    const double norm = rows.to(at::kDouble).norm().item<double>();
    squares += norm * norm;
  });
  return std::sqrt(squares);
}

void add_module(aggregation::AdapterLayout& layout, const models::Linear& linear,
                std::int64_t members) {
  const auto [norm, is_new] = layout.norms.try_emplace(linear.name);
  if (is_new) norm->second = norm_of(linear);
  const aggregation::ModuleLayout shape{.out = linear.out_features(), .in = linear.in_features()};
  layout.modules[linear.name] = shape;
  for (std::int64_t m = 0; m < members; ++m) {
    layout.modules[tensors::member_name(m, linear.name)] = shape;
    layout.norms[tensors::member_name(m, linear.name)] = norm->second;
  }
}

void add_head(aggregation::AdapterLayout& layout, models::Model& model, std::int64_t members) {
  for (const auto& [name, tensor] : model.dense()) {
    layout.dense[name] = tensor->sizes().vec();
    layout.norms[name] = tensor->to(at::kDouble).norm().item<double>();
    for (std::int64_t m = 0; m < members; ++m) {
      layout.dense[tensors::member_name(m, name)] = tensor->sizes().vec();
      layout.norms[tensors::member_name(m, name)] = layout.norms[name];
    }
  }
}

}  // namespace

struct Workbench::Impl {
  WorkbenchConfig config;
  models::ModelSpec spec;
  models::Base base;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::optional<data::LabelMap> classes;           ///< classification
  std::optional<data::SequenceEncoder> sequences;  ///< causal LM
  std::optional<data::SequenceEncoder> unbound;    ///< the same, to any length
  std::optional<data::LabelledEncoder> labelled;   ///< other tasks
  std::string sha256;
  GlobalStatePtr pristine;
  bool has_dropout;
  models::InputLimits inputs;
  mutable std::mutex mutex;
  std::map<std::string, Examples> examples;  ///< which ones there are: guarded by mutex

  explicit Impl(WorkbenchConfig given)
      : config(std::move(given)),
        spec(spec_of(config)),
        base(models::load_base(spec)),
        tokenizer(text::load_tokenizer(spec.folder)),
        sha256(sha256_of(spec, base)),
        pristine(GlobalState::pristine(*instance(), config.max_member_rank)),
        has_dropout(instance()->has_dropout()),
        inputs(models::input_limits(base.config)) {
    check_length(inputs, config.model.max_length, "model.max_length");
    if (spec.task == models::Task::Classification) classes.emplace(config.labels);
    if (spec.task == models::Task::CausalLm) {
      config.sequences.num_rows = inputs.tokens;
      const auto chat = text::ChatTemplate::load(spec.folder);
      sequences.emplace(*tokenizer, chat, config.sequences);
      unbound.emplace(*tokenizer, chat, data::unbound(config.sequences));
    } else {
      labelled.emplace(*tokenizer,
                       data::LabelledOptions{.max_length = config.model.max_length,
                                             .num_rows = inputs.tokens,
                                             .classes = classes ? &*classes : nullptr,
                                             .remedy = "check data.label_field and data.labels"});
    }
    if (!config.model.sha256.empty() && config.model.sha256 != sha256) {
      throw core::ConfigError("model.path: " + config.model.path.string() + " has sha256 " +
                              sha256 + ", not model.sha256 = " + config.model.sha256 +
                              "; every party needs the same base model");
    }
  }

  std::unique_ptr<models::Model> instance() const { return models::build(spec, base); }

  const Examples& named(const std::string& name) const {
    const std::scoped_lock lock(mutex);
    const auto found = examples.find(name);
    core::require(found != examples.end(), "workbench: no examples named " + core::quote(name));
    return found->second;
  }

  /// @return tokens that max_length cut; std::nullopt: the record is left out
  std::optional<std::size_t> add(const data::Record& record, const std::string& where,
                                 data::Dataset& dataset) const {
    if (labelled) return labelled->add(record, where, dataset);
    if (!sequences->add(record, where, dataset)) return std::nullopt;
    const std::size_t length = dataset.length(dataset.size() - 1);
    return data::num_lost(*unbound, record, length, config.sequences.max_length);
  }

  void keep(const std::string& name, data::Dataset dataset) {
    const std::scoped_lock lock(mutex);
    examples.insert_or_assign(name,
                              Examples{.dataset = std::move(dataset),
                                       .task = spec.task,
                                       .pad = tokenizer->special().pad.value_or(0),
                                       .pack_to = config.packing ? config.model.max_length : 0});
  }

  std::int64_t evaluation_rows(models::Model& model, const GlobalState& state,
                               const Examples& named) const {
    if (config.memory_limit == 0) return config.evaluation_batch;
    MemoryFixed fixed = fixed_memory(model, named, models::num_bytes(base), 0);
    for (const models::Linear* linear : model.linears()) {
      if (linear->quantized) continue;
      const bool is_base = linear->weight.is_alias_of(state.pristine_weights().at(linear->name));
      if (!is_base) fixed.versions += static_cast<std::int64_t>(linear->weight.nbytes());
    }
    PassLimits limits = pass_limits(named, config.evaluation_batch);
    limits.row_tokens = limits.longest;  // nothing is packed here
    return training::evaluation_rows(model, config.memory_limit, limits, fixed);
  }

  [[noreturn]] static void fail(const std::string& where, const std::string& problem) {
    throw core::ConfigError(where + ": " + problem);
  }
};

Workbench::Workbench(WorkbenchConfig config) : impl_(std::make_unique<Impl>(std::move(config))) {}
Workbench::~Workbench() = default;

core::ConfigError nothing_to_learn(const std::string& name, const core::ModelConfig& model) {
  return core::ConfigError(name + ": model.max_length = " + std::to_string(model.max_length) +
                           " leaves nothing to learn in any example; raise it");
}

EncodedRecords Workbench::encode(const std::string& name,
                                 const std::vector<data::Record>& records) const {
  if (records.empty()) throw core::ConfigError(name + ": no examples");
  EncodedRecords encoded;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const std::string known = records[i].where.str();
    const std::string where = known.empty() ? name + ": example " + std::to_string(i + 1) : known;
    const auto lost = impl_->add(records[i], where, encoded.dataset);
    encoded.num_lost.push_back(lost.value_or(0));
    encoded.examples.push_back(lost ? std::optional(encoded.dataset.size() - 1) : std::nullopt);
  }
  return encoded;
}

data::Shortened Workbench::add_examples(const std::string& name,
                                        const std::vector<data::Record>& records) {
  EncodedRecords encoded = encode(name, records);
  if (encoded.dataset.empty()) throw nothing_to_learn(name, impl_->config.model);
  data::Shortened shortened{.of = name, .num_examples = encoded.dataset.size()};
  for (const std::size_t lost : encoded.num_lost) shortened.cut.add(lost);
  shortened.left_out = static_cast<std::int64_t>(records.size() - encoded.dataset.size());
  impl_->keep(name, std::move(encoded.dataset));
  return shortened;
}

void Workbench::add_dataset(const std::string& name, data::Dataset examples) {
  if (examples.empty()) throw core::ConfigError(name + ": no examples");
  impl_->keep(name, std::move(examples));
}

void Workbench::remove_examples(const std::string& name) {
  const std::scoped_lock lock(impl_->mutex);
  impl_->examples.erase(name);
}

const data::SequenceEncoder& Workbench::sequences() const {
  core::require(impl_->sequences.has_value(), "workbench: only causal LM has sequences");
  return *impl_->sequences;
}

std::int64_t Workbench::num_examples(const std::string& name) const {
  return static_cast<std::int64_t>(impl_->named(name).dataset.size());
}

const std::string& Workbench::base_sha256() const { return impl_->sha256; }

std::string Workbench::device() const { return impl_->spec.device.str(); }

bool Workbench::has_dropout() const { return impl_->has_dropout; }

std::uint64_t Workbench::peak_memory() const { return models::peak_memory(impl_->spec.device); }

aggregation::AdapterLayout Workbench::layout(const std::vector<core::TrainingConfig>& trainings,
                                             const tensors::FactorSet& first_version) const {
  const std::unique_ptr<models::Model> model = impl_->instance();
  aggregation::AdapterLayout layout;
  for (const models::Linear* linear : model->linears()) {
    if (first_version.modules.contains(linear->name)) add_module(layout, *linear, 0);
  }
  for (const core::TrainingConfig& training : trainings) {
    adapters::validate(adapters::spec_of(training));
    const auto settings = adapters::ensemble_settings(adapters::spec_of(training));
    const std::int64_t members = settings && settings->members > 1 ? settings->members : 0;
    for (const models::Linear* linear : adapters::match_linears(*model, training.target_modules)) {
      add_module(layout, *linear, members);
    }
    for (auto& [name, shape] : adapters::statistics_of(*model, adapters::spec_of(training))) {
      layout.dense[std::string(tensors::kStatistics) + name] = shape;
    }
    add_head(layout, *model, members);
  }
  add_head(layout, *model, 0);
  return layout;
}

GlobalStatePtr Workbench::pristine() const { return impl_->pristine; }

std::optional<LocalResult> Workbench::train(const RoundTask& task, const TrainHooks& hooks) const {
  core::require(task.state != nullptr, "workbench: train without a state");
  tensors::use_threads(static_cast<int>(task.training.config.threads));
  const std::unique_ptr<models::Model> model = impl_->instance();
  const TrainingSite site{.model = *model,
                          .examples = impl_->named(task.client),
                          .base_bytes = models::num_bytes(impl_->base)};
  const auto ensemble = adapters::ensemble_settings(task.training.spec);
  return ensemble ? train_ensemble(task, site, *ensemble, hooks) : train_locally(task, site, hooks);
}

std::vector<GroupOutcome> Workbench::train_group(
    const std::vector<GroupTraining>& trainings) const {
  std::vector<GroupTask> tasks;
  for (const GroupTraining& training : trainings) {
    tasks.push_back({training.task, impl_->named(training.task.client), training.hooks});
  }
  tensors::use_threads(static_cast<int>(trainings.front().task.training.config.threads));
  const std::unique_ptr<models::Model> model = impl_->instance();
  return training::train_group(*model, tasks, models::num_bytes(impl_->base));
}

TrainingMemory Workbench::training_memory(const std::string& examples,
                                          const core::TrainingConfig& training) const {
  core::require(training.memory_limit > 0, "workbench: training_memory without a limit");
  const std::unique_ptr<models::Model> model = impl_->instance();
  const auto adapter = adapters::make_adapter(
      *model,
      {.rank = training.rank, .alpha = training.alpha, .target_modules = training.target_modules},
      {});
  model->set_bfloat16(training.precision == "bfloat16");
  std::int64_t bytes = 0;
  for (const adapters::Parameter& parameter : adapter->parameters()) {
    bytes += static_cast<std::int64_t>(parameter.tensor.nbytes());
  }
  const Examples& named = impl_->named(examples);
  const MemoryFixed fixed = fixed_memory(*model, named, models::num_bytes(impl_->base), bytes);
  return {.fixed = fixed,
          .plan = plan_memory(*model, training, pass_limits(named, training.batch_size), fixed,
                              /*keeps_logits=*/false)};
}

std::optional<Evaluation> Workbench::evaluate(const GlobalState& state, const std::string& examples,
                                              const EvaluateHooks& hooks) const {
  const std::unique_ptr<models::Model> model = impl_->instance();
  state.install_for_evaluation(*model);
  const Examples& named = impl_->named(examples);
  const std::int64_t rows = impl_->evaluation_rows(*model, state, named);
  if (state.members().empty()) return evaluate_model(*model, named, rows, hooks);
  MemberPredictor members(*model, members_of(state));
  return evaluate_members(*model, members, named, rows, hooks);
}

}  // namespace drystone::training
