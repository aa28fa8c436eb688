#include "aggregation/published_sum.h"

#include <charconv>
#include <optional>
#include <string_view>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>

#include "core/check.h"
#include "core/error.h"
#include "tensors/factor_set_io.h"
#include "tensors/member_names.h"
#include "tensors/safetensors_writer.h"

namespace drystone::aggregation {
namespace {

constexpr const char* kFormat = "drystone-sum-1";
// Prefixes of the file's keys; what follows is the part's own name.
constexpr std::string_view kB = "b/";
constexpr std::string_view kA = "a/";
constexpr std::string_view kProduct = "product/";
constexpr std::string_view kDense = "dense/";
constexpr std::string_view kKept = "kept/";
constexpr std::string_view kScores = "scores/";
constexpr const char* kTail = "relative_tail";

std::string key(std::string_view prefix, std::string_view name) {
  return std::string(prefix) += name;
}

/// A value of the file's metadata.
std::string text_of(const tensors::SafetensorsFile& file, const char* name) {
  const auto found = file.header().metadata.find(name);
  if (found != file.header().metadata.end()) return found->second;
  throw core::IoError(file.path().string() + ": no sum of versions (" + name + ")");
}

std::uint64_t number_of(const tensors::SafetensorsFile& file, const char* name) {
  const std::string text = text_of(file, name);
  std::uint64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && stop == text.data() + text.size()) return value;
  throw core::IoError(file.path().string() + ": no sum of versions (" + name + ")");
}

/// The names of the keys with this prefix.
std::set<std::string> names_of(const tensors::SafetensorsFile& file, std::string_view prefix) {
  std::set<std::string> names;
  for (const auto& [key, info] : file.header().tensors) {
    if (key.starts_with(prefix)) names.insert(key.substr(prefix.size()));
  }
  return names;
}

std::map<std::string, at::Tensor> tensors_of(const tensors::SafetensorsFile& file,
                                             std::string_view prefix) {
  std::map<std::string, at::Tensor> tensors;
  for (const std::string& name : names_of(file, prefix)) {
    tensors[name] = file.tensor(key(prefix, name));
  }
  return tensors;
}

/// One version's way into the sum.
class Step {
 public:
  Step(const SumStep& step, const SumProgress& progress)
      : step_(step), progress_(progress), payload_(step.payload) {
    if (!step.before.empty()) before_.emplace(step.before);
    if (before_) relative_tail_ = before_->relative_tail();
  }

  bool run() {
    std::set<std::string> modules;
    for (const auto& [name, shape] : payload_.shapes().modules) modules.insert(name);
    if (keeps_modules()) modules.insert(before_->modules().begin(), before_->modules().end());
    tensors::SafetensorsWriter parts(
        step_.after,
        {{"format", kFormat}, {"version", std::to_string(step_.version)}, {"head", step_.head}});
    std::int64_t done = 0;
    for (const std::string& name : modules) {
      write(parts, name, sum_of(name));
      forget_pages();
      const auto total = static_cast<std::int64_t>(modules.size());
      if (progress_ && !progress_(++done, total)) return false;
    }
    write_dense(parts);
    write_mask(parts);
    parts.add(kTail, at::full({1}, relative_tail_, at::kDouble));
    parts.finish();
    return true;
  }

 private:
  bool keeps_modules() const { return before_ && step_.mode == core::PublishMode::Add; }

  ModuleSum sum_of(const std::string& name) {
    const ModuleSum before = keeps_modules() ? before_->module(name) : ModuleSum{};
    if (!payload_.shapes().modules.contains(name)) return before;
    const bool is_bounded = step_.max_member_rank > 0 && tensors::split_member(name);
    try {
      const tensors::Factors update = payload_.module(name);
      return is_bounded ? add_bounded(before, update, step_.max_member_rank, relative_tail_)
                        : add(before, update);
    } catch (const core::InvalidArgument& error) {
      throw core::InvalidArgument(name + ": " + error.what());
    }
  }
  void forget_pages() const {
    payload_.forget_pages();
    if (before_) before_->forget_pages();
  }

  static void write(tensors::SafetensorsWriter& parts, const std::string& name,
                    const ModuleSum& sum) {
    if (sum.product.defined()) return parts.add(key(kProduct, name), sum.product);
    parts.add(key(kB, name), sum.factors.b);
    parts.add(key(kA, name), sum.factors.a);
  }

  void write_dense(tensors::SafetensorsWriter& parts) const {
    std::set<std::string> names;
    for (const auto& [name, shape] : payload_.shapes().dense) names.insert(name);
    if (before_) names.insert(before_->dense().begin(), before_->dense().end());
    for (const std::string& name : names) {
      at::Tensor sum = before_ ? before_->dense(name) : at::Tensor();
      if (payload_.shapes().dense.contains(name)) {
        const at::Tensor update = payload_.dense(name).to(at::kDouble);
        core::require(!sum.defined() || sum.sizes() == update.sizes(),
                      name + ": sum: a dense part changes its shape");
        sum = sum.defined() ? sum + update : update;
      }
      parts.add(key(kDense, name), sum);
    }
  }

  void write_mask(tensors::SafetensorsWriter& parts) const {
    std::map<std::string, at::Tensor> scores;
    if (before_) scores = before_->pruning_statistics();
    for (const auto& [name, shape] : payload_.shapes().dense) {
      const auto statistic = tensors::statistic_name(name);
      if (!statistic || !statistic->starts_with(tensors::kPruning)) continue;
      tensors::add_statistic(scores, *statistic, payload_.dense(name));
    }
    const tensors::KeptGroups kept = tensors::next_mask(
        before_ ? before_->kept() : tensors::KeptGroups{}, step_.version, scores);
    for (const auto& [name, tensor] : scores) parts.add(key(kScores, name), tensor);
    for (const auto& [name, tensor] : kept) parts.add(key(kKept, name), tensor);
  }

  const SumStep& step_;
  const SumProgress& progress_;
  tensors::FactorSetFile payload_;
  std::optional<PublishedSum> before_;
  double relative_tail_ = 0.0;
};

}  // namespace

PublishedSum::PublishedSum(const std::filesystem::path& file)
    : file_(file),
      version_(number_of(file_, "version")),
      head_(text_of(file_, "head")),
      dense_(names_of(file_, kDense)) {
  if (text_of(file_, "format") != kFormat || !file_.contains(kTail)) {
    throw core::IoError(file.string() + ": no sum of versions");
  }
  relative_tail_ = file_.tensor(kTail).item<double>();
  for (const std::string_view prefix : {kB, kProduct}) modules_.merge(names_of(file_, prefix));
}

ModuleSum PublishedSum::module(const std::string& name) const {
  if (!modules_.contains(name)) return {};
  if (file_.contains(key(kProduct, name))) return {.product = file_.tensor(key(kProduct, name))};
  return {.factors = {.b = file_.tensor(key(kB, name)), .a = file_.tensor(key(kA, name))}};
}

at::Tensor PublishedSum::dense(const std::string& name) const {
  return dense_.contains(name) ? file_.tensor(key(kDense, name)) : at::Tensor();
}

tensors::KeptGroups PublishedSum::kept() const { return tensors_of(file_, kKept); }

std::map<std::string, at::Tensor> PublishedSum::pruning_statistics() const {
  return tensors_of(file_, kScores);
}

bool add_version(const SumStep& step, const SumProgress& progress) {
  const at::NoGradGuard no_grad;
  return Step(step, progress).run();
}

}  // namespace drystone::aggregation
