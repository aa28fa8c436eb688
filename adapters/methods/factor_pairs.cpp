#include "adapters/methods/factor_pairs.h"

#include <map>
#include <tuple>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include "core/check.h"
#include "core/error.h"

namespace drystone::adapters {

namespace {

constexpr std::string_view kA = ".lora_A";
constexpr std::string_view kB = ".lora_B";

/// What the members of a group have in common.
auto kind_of(const LeafPair& pair) {
  return std::tuple(pair.rank(), pair.in_features(), pair.out_features(),
                    pair.a.tensor.scalar_type(), pair.a.tensor.device().str());
}

std::vector<LeafPair> match(const std::vector<Parameter>& parameters) {
  std::map<std::string, const Parameter*> counterparts;
  for (const Parameter& parameter : parameters) {
    if (parameter.name.ends_with(kB)) {
      counterparts[parameter.name.substr(0, parameter.name.size() - kB.size())] = &parameter;
    }
  }
  std::vector<LeafPair> pairs;
  for (const Parameter& parameter : parameters) {
    if (!parameter.name.ends_with(kA)) continue;
    const std::string module = parameter.name.substr(0, parameter.name.size() - kA.size());
    const auto other = counterparts.find(module);
    core::require(other != counterparts.end(), "sort_pairs: " + module + " has no B");
    pairs.push_back({.module = module, .a = parameter, .b = *other->second});
    counterparts.erase(other);
  }
  core::require(counterparts.empty(), "sort_pairs: a B without its A");
  return pairs;
}

at::Tensor stacked(const PairGroup& group, Parameter LeafPair::* side) {
  std::vector<at::Tensor> parts;
  for (const LeafPair& pair : group) parts.push_back((pair.*side).tensor);
  return at::stack(parts).to(at::kDouble);
}

at::Tensor stacked_gradients(const PairGroup& group, Parameter LeafPair::* side) {
  std::vector<at::Tensor> parts;
  for (const LeafPair& pair : group) {
    const at::Tensor& leaf = (pair.*side).tensor;
    parts.push_back(leaf.grad().defined() ? leaf.grad() : at::zeros_like(leaf));
  }
  return at::stack(parts).to(at::kDouble);
}

bool is_finite(const at::Tensor& numbers) { return at::isfinite(numbers.sum()).item<bool>(); }

/// Decompositions do not end on numbers that are not finite.
void check_finite(const PairGroup& group, const StackedPairs& pairs, std::string_view method) {
  const at::Tensor sums = pairs.a.sum({1, 2}) + pairs.b.sum({1, 2}) + pairs.grad_a.sum({1, 2}) +
                          pairs.grad_b.sum({1, 2});
  if (is_finite(sums)) return;
  for (std::size_t i = 0; i < group.size(); ++i) {
    if (is_finite(sums[static_cast<std::int64_t>(i)])) continue;
    throw core::Error(std::string(method) + ": " + group[i].module +
                      " or its gradient is not finite; lower training.learning_rate or set "
                      "training.max_grad_norm = 1.0");
  }
}

}  // namespace

bool is_factor(std::string_view name) { return name.ends_with(kA) || name.ends_with(kB); }

SortedParameters sort_pairs(const std::vector<Parameter>& parameters) {
  SortedParameters sorted;
  for (const Parameter& parameter : parameters) {
    if (!is_factor(parameter.name)) {
      sorted.others.push_back(parameter);
      continue;
    }
    core::require(parameter.rate_factor == 1.0 && parameter.decay_factor == 1.0,
                  "sort_pairs: " + parameter.name + " has a rate or a decay of its own");
  }
  std::map<decltype(kind_of(std::declval<LeafPair>())), std::size_t> places;
  for (LeafPair& pair : match(parameters)) {
    const auto [place, is_new] = places.emplace(kind_of(pair), sorted.groups.size());
    if (is_new) sorted.groups.emplace_back();
    sorted.groups[place->second].push_back(std::move(pair));
  }
  return sorted;
}

void clear_gradients(const std::vector<PairGroup>& groups) {
  for (const PairGroup& group : groups) {
    for (const LeafPair& pair : group) {
      pair.a.tensor.mutable_grad().reset();
      pair.b.tensor.mutable_grad().reset();
    }
  }
}

StackedPairs stack_pairs(const PairGroup& group, std::string_view method) {
  StackedPairs pairs{.a = stacked(group, &LeafPair::a),
                     .b = stacked(group, &LeafPair::b),
                     .grad_a = stacked_gradients(group, &LeafPair::a),
                     .grad_b = stacked_gradients(group, &LeafPair::b)};
  check_finite(group, pairs, method);
  return pairs;
}

void move_pairs_(const PairGroup& group, const StackedPairs& values, const at::Tensor& step_a,
                 const at::Tensor& step_b) {
  const at::Tensor a = values.a + step_a;
  const at::Tensor b = values.b + step_b;
  for (std::size_t i = 0; i < group.size(); ++i) {
    group[i].a.tensor.copy_(a[static_cast<std::int64_t>(i)]);
    group[i].b.tensor.copy_(b[static_cast<std::int64_t>(i)]);
  }
}

}  // namespace drystone::adapters
