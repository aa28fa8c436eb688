#include "models/adapted_base.h"

#include <set>
#include <sstream>
#include <string>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/error.h"
#include "core/json.h"
#include "models/family_names.h"
#include "models/weights.h"
#include "tensors/peft_names.h"

namespace drystone::models {
namespace {

constexpr const char* kLmHead = "lm_head";

std::string weight_of(std::string_view module) { return std::string(module) + ".weight"; }

class Installer {
 public:
  Installer(Base& base, Task task, const std::filesystem::path& origin)
      : base_(base), task_(task), origin_(origin) {
    const FamilyNames* const names = family_names(base.config.text_or("model_type", ""));
    if (names != nullptr) names_ = *names;
  }

  void run(tensors::FactorSet& adapter) {
    separate_head(adapter);
    for (const auto& [name, tensor] : adapter.dense) save(name, tensor);
    adapter.dense.clear();
    for (auto module = adapter.modules.begin(); module != adapter.modules.end();) {
      if (!is_outside_layers(module->first)) {
        ++module;
        continue;
      }
      add(module->first, module->second);
      module = adapter.modules.erase(module);
    }
    follow_vocabulary();
  }

 private:
  at::Tensor* find(const std::string& name) {
    const auto found = find_weight(base_.weights, name, names_.base);
    return found == base_.weights.end() ? nullptr : &found->second;
  }

  bool is_outside_layers(const std::string& module) const {
    return module == kLmHead || tensors::is_embedding(module) || is_of_head(module);
  }

  /// "classifier.dense" is of the head "classifier.out_proj".
  bool is_of_head(const std::string& name) const {
    const std::string_view head = names_.head.substr(0, names_.head.find('.'));
    return !head.empty() && name.starts_with(head) &&
           (name.size() == head.size() || name[head.size()] == '.');
  }

  /// Of this family's classification head, or another's.
  static bool is_of_classifier(std::string_view name) {
    return name.starts_with("classifier.") || name.starts_with("score.");
  }

  /// A tied head stays what it was when the embeddings change under it.
  void separate_head(const tensors::FactorSet& adapter) {
    const std::string embedding(names_.embedding);
    const auto changes = [&](const std::string& module) {
      return adapter.modules.contains(module) || adapter.dense.contains(weight_of(module));
    };
    if (!changes(embedding) && !changes(kLmHead)) return;
    if (task_ != Task::CausalLm || find(weight_of(kLmHead)) != nullptr) return;
    if (const at::Tensor* const tied = find(weight_of(embedding))) {
      base_.weights[weight_of(kLmHead)] = *tied;
    }
  }

  void save(const std::string& name, const at::Tensor& tensor) {
    if (task_ == Task::CausalLm && is_of_classifier(name)) {
      fail(
          "belongs to a classifier (task classification or regression), not to a causal language "
          "model; use it with that task and the base model that it was trained on");
    }
    at::Tensor* const place = find(name);
    if (place == nullptr) {
      const bool is_pooler = name.find("pooler.dense.") != std::string::npos;
      if (!is_of_head(name) && !is_pooler) {
        fail_of_base(name + " is saved by the adapter, but the model has no such tensor");
      }
      base_.weights[name] = tensor;
      return;
    }
    const bool may_grow = is_vocabulary(name) || is_of_head(name);
    if (tensor.sizes() != place->sizes() && !(may_grow && have_equal_rows(tensor, *place))) {
      std::ostringstream problem;
      problem << name << " is " << tensor.sizes() << " in the adapter and " << place->sizes()
              << " in the model";
      fail_of_base(problem.str());
    }
    *place = tensor.to(place->device(), place->scalar_type());
  }

  static bool have_equal_rows(const at::Tensor& x, const at::Tensor& y) {
    return x.dim() == y.dim() && x.dim() > 0 && x.sizes().slice(1) == y.sizes().slice(1);
  }

  bool is_vocabulary(const std::string& name) const {
    return name == weight_of(names_.embedding) || name == weight_of(kLmHead);
  }

  void add(const std::string& module, const tensors::Factors& factors) {
    at::Tensor* const place = find(weight_of(module));
    if (place == nullptr) fail_of_base("module " + module + " is not in the model");
    const bool is_transposed = tensors::is_embedding(module);
    const std::int64_t out = place->size(is_transposed ? 1 : 0);
    const std::int64_t in = place->size(is_transposed ? 0 : 1);
    if (factors.out_features() != out || factors.in_features() != in) {
      fail_of_base("module " + module + " has another shape than in the model");
    }
    *place = with_factors(*place, factors, is_transposed).to(place->scalar_type());
  }

  void follow_vocabulary() {
    const at::Tensor* const embedding = find(weight_of(names_.embedding));
    if (embedding == nullptr) return;
    const std::int64_t rows = embedding->size(0);
    const at::Tensor* const head = find(weight_of(kLmHead));
    if (task_ == Task::CausalLm && head != nullptr && head->size(0) != rows) {
      fail("the embeddings have " + std::to_string(rows) + " rows with it and lm_head " +
           std::to_string(head->size(0)) +
           "; it needs both, as PEFT saves them with save_embedding_layers=True");
    }
    if (rows != base_.config.size("vocab_size")) {
      nlohmann::ordered_json config = core::read_ordered_json(base_.config.file());
      config["vocab_size"] = rows;
      base_.config = HfConfig::parse(config.dump(), base_.config.file());
    }
  }

  [[noreturn]] void fail(const std::string& problem) const {
    throw core::ConfigError(origin_.string() + ": " + problem);
  }
  [[noreturn]] void fail_of_base(const std::string& problem) const {
    fail(problem + "; name the base model that it was trained on");
  }

  Base& base_;
  Task task_;
  FamilyNames names_;  ///< of an unknown family empty
  const std::filesystem::path& origin_;
};

}  // namespace

at::Tensor with_factors(const at::Tensor& weight, const tensors::Factors& factors,
                        bool is_transposed) {
  const at::NoGradGuard no_grad;
  const at::Device device = weight.device();
  const at::Tensor w = weight.to(at::kFloat);
  const at::Tensor sum = at::addmm(is_transposed ? w.t() : w, factors.b.to(device, at::kFloat),
                                   factors.a.to(device, at::kFloat));
  return is_transposed ? sum.t().contiguous() : sum;
}

void install_saved(Base& base, Task task, tensors::FactorSet& adapter,
                   const std::filesystem::path& origin) {
  core::require(base.quantized.empty(), "install_saved: the base is quantised");
  Installer(base, task, origin).run(adapter);
}

}  // namespace drystone::models
