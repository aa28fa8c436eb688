#include "adapters/methods/sbora.h"

#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "adapters/side_path.h"
#include "core/error.h"

namespace drystone::adapters {

namespace {

enum class Fixed { A, B };

/// `rank` distinct indices below `bound`: the head of a keyed shuffle, a prefix of larger sets.
at::Tensor draw_indices(const models::Linear& linear, std::int64_t rank, std::int64_t bound,
                        const AdapterStart& start) {
  if (rank > bound) {
    throw core::ConfigError("training.rank: " + std::to_string(rank) + " is more than the " +
                            std::to_string(bound) + " basis vectors of " + linear.name);
  }
  const std::string purpose = "sbora-index/" + linear.name;
  core::SplitMix64 random({start.seed, start.round, "", purpose});
  std::vector<std::int64_t> all(static_cast<std::size_t>(bound));
  std::iota(all.begin(), all.end(), 0);
  for (std::size_t i = 0; i < static_cast<std::size_t>(rank); ++i) {
    std::swap(all[i], all[i + static_cast<std::size_t>(random.below(all.size() - i))]);
  }
  all.resize(static_cast<std::size_t>(rank));
  return at::tensor(all, at::kLong).to(linear.device());
}

class SboraLayer final : public SidePath {
 public:
  SboraLayer(const models::Linear& linear, const AdapterSpec& spec, const AdapterStart& start,
             Fixed fixed)
      : SidePath(linear, lora_scale(spec), spec, start), fixed_(fixed) {
    const bool picks_inputs = fixed == Fixed::A;
    fixed_size_ = picks_inputs ? linear.in_features() : linear.out_features();
    index_ = draw_indices(linear, spec.rank, fixed_size_, start);
    trained_ = make_leaf(picks_inputs ? at::zeros({linear.out_features(), spec.rank}, at::kFloat)
                                      : at::zeros({spec.rank, linear.in_features()}, at::kFloat),
                         linear);
  }

  at::Tensor forward(const models::Linear& base, const models::LayerInput& x) override {
    const at::Tensor trained = trained_.to(x.value.scalar_type());
    const auto function = fixed_ == Fixed::A ? gathered_linear : scattered_linear;
    return function(x, base.frozen(), base.bias, index_, trained, scale(), next_dropout());
  }
  std::vector<SideTerm> terms(at::ScalarType dtype) override {
    if (fixed_ == Fixed::B) return SidePath::terms(dtype);
    return {{.pair = {.a = {}, .b = trained_.to(dtype)},
             .columns = index_,
             .scale = scale(),
             .dropout = next_dropout()}};
  }
  /// Dense, for the export and for passes that are shared.
  Pair pair() const override {
    const std::int64_t rank = index_.size(0);
    at::Tensor rows = at::zeros({rank, fixed_size_}, trained_.options().requires_grad(false));
    rows.scatter_(1, index_.unsqueeze(1), 1.0);
    if (fixed_ == Fixed::A) return {.a = rows, .b = trained_};
    return {.a = trained_, .b = rows.t()};
  }
  std::vector<Parameter> parameters() const override {
    const char* name = fixed_ == Fixed::A ? ".lora_B" : ".lora_A";
    return {{.name = module() + name, .tensor = trained_}};
  }

 private:
  Fixed fixed_;
  std::int64_t fixed_size_ = 0;
  at::Tensor index_;
  at::Tensor trained_;
};

template <Fixed fixed>
std::int64_t basis_vectors(std::int64_t out, std::int64_t in) {
  return fixed == Fixed::A ? in : out;
}

template <Fixed fixed>
std::unique_ptr<Adapter> make_sbora(models::Model& model, const AdapterSpec& spec,
                                    const AdapterStart& start) {
  return std::make_unique<SideAdapter<SboraLayer>>(model, spec, start, fixed);
}

}  // namespace

// Trains B over inputs (columns of W) that a key of seed, round and module picks: the same for all
// clients of a round, those of a smaller rank being the first of a larger one.
Method sbora_fa_method() {
  return {.name = "sbora-fa",
          .summary = "trains single columns of W (Po et al., 2024, arXiv:2407.05413)",
          .options = {},
          .make = make_sbora<Fixed::A>,
          .rank_limit = basis_vectors<Fixed::A>};
}

// Trains A over outputs (rows of W), picked alike.
Method sbora_fb_method() {
  return {.name = "sbora-fb",
          .summary = "trains single rows of W (Po et al., 2024, arXiv:2407.05413)",
          .options = {},
          .make = make_sbora<Fixed::B>,
          .rank_limit = basis_vectors<Fixed::B>};
}

}  // namespace drystone::adapters
