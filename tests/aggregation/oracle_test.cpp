// Against tests/oracles/aggregation_oracle.py: dense float64 definitions, written in Python.

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "aggregation/averaging.h"
#include "aggregation/compaction.h"
#include "aggregation/stacking.h"
#include "aggregation/weighting.h"
#include "tensors/safetensors.h"
#include "tests/aggregation/random_updates.h"

namespace drystone::aggregation {
namespace {

const tensors::SafetensorsFile& oracle() {
  static const tensors::SafetensorsFile file(std::filesystem::path(DRYSTONE_SOURCE_DIR) /
                                             "tests/aggregation/fixtures/oracle.safetensors");
  return file;
}

std::vector<WeightedFactors> oracle_clients() {
  const at::Tensor examples = oracle().tensor("examples");
  std::vector<WeightedFactors> clients;
  for (int64_t k = 0; k < examples.size(0); ++k) {
    const std::string suffix = std::to_string(k);
    clients.push_back({{.b = oracle().tensor("b" + suffix), .a = oracle().tensor("a" + suffix)},
                       examples[k].item<double>()});
  }
  return clients;
}

/// Relative to the expected tensor; float32 results of sums over four clients.
void check_close(const at::Tensor& actual, const std::string& name) {
  CAPTURE(name);
  const at::Tensor expected = oracle().tensor(name);
  CHECK(test::norm(actual - expected) <= 4 * test::kFloatEpsilon * test::norm(expected));
}

TEST_CASE("oracle: stacking and lossless compaction give the weighted mean update") {
  const tensors::Factors stacked = stack(oracle_clients());
  CHECK(stacked.rank() == 4 + 1 + 4);  // the third client has no examples
  check_close(test::dense(stacked), "stacked");
  const Compacted compacted = compact(stacked, {.kind = CompactionKind::Lossless});
  check_close(test::dense(compacted.factors), "stacked");
  const at::Tensor sigma = oracle().tensor("sigma");
  for (int64_t i = 0; i < sigma.size(0); ++i) {
    CHECK(compacted.report.sigma.at(static_cast<std::size_t>(i)) ==
          doctest::Approx(sigma[i].item<double>()).epsilon(1e-6));
  }
}

TEST_CASE("oracle: FedIT and zero-padding average the factors") {
  const auto clients = oracle_clients();
  const tensors::Factors padded = average_zero_padded(clients);
  check_close(padded.b, "padded_b");
  check_close(padded.a, "padded_a");
  const std::vector<WeightedFactors> of_rank_4 = {clients[0], clients[3]};
  check_close(average(of_rank_4).b, "fedit_b");
  check_close(average(of_rank_4).a, "fedit_a");
}

TEST_CASE("oracle: dense parts are averaged by the same shares") {
  std::vector<at::Tensor> parts;
  std::vector<std::uint64_t> examples;
  for (int64_t k = 0; k < 4; ++k) {
    parts.push_back(oracle().tensor("bias" + std::to_string(k)));
    examples.push_back(static_cast<std::uint64_t>(oracle().tensor("examples")[k].item<int64_t>()));
  }
  check_close(weighted_sum(parts, shares(Weighting::Examples, examples)), "bias");
}

}  // namespace
}  // namespace drystone::aggregation
