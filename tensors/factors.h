#pragma once
// The currency between folders: what a trained state means relative to the pristine base weights.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

namespace drystone::tensors {

/// One module's update as a product: ΔW = B · A. Every scale (alpha / rank, weight) is folded in.
struct Factors {
  at::Tensor b;  ///< [out, rank]
  at::Tensor a;  ///< [rank, in]

  int64_t rank() const { return a.size(0); }
  int64_t out_features() const { return b.size(0); }
  int64_t in_features() const { return a.size(1); }
  bool same_module(const Factors& other) const {
    return out_features() == other.out_features() && in_features() == other.in_features();
  }
  /// B · A [out, in], dense: for tests and for folding into a weight.
  at::Tensor product() const;
};

/// Dense parts "statistics/<name>" are sums that a method collects beside the model (scores,
/// covariances): the server adds their weighted mean to what was published; absent counts as zero.
inline constexpr std::string_view kStatistics = "statistics/";
/// Modules and dense parts "member-<number>/<name>" belong to one member of an ensemble.
inline constexpr std::string_view kMember = "member-";

/// "" for the model's own parts, "statistics" or "member-<number>".
std::string_view scope_of(std::string_view name);

/// An update or a published version: module name (Hugging Face dotted path, e.g.
/// "bert.encoder.layer.0.attention.self.query") → factors, and named dense parts (a classifier's
/// weight and bias), each as a difference from the version that it started from.
/// Ordered maps: iteration order is part of the determinism.
struct FactorSet {
  std::map<std::string, Factors> modules;
  std::map<std::string, at::Tensor> dense;

  /// Bytes of all tensors, without any header.
  int64_t num_bytes() const;
};

}  // namespace drystone::tensors
