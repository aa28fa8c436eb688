#include "aggregation/weighting.h"

#include <vector>

#include <doctest/doctest.h>

#include "core/error.h"

namespace drystone::aggregation {
namespace {

using Counts = std::vector<std::uint64_t>;

TEST_CASE("shares: by examples or uniform, over those who are there") {
  CHECK(shares(Weighting::Examples, Counts{1, 3}) == std::vector<double>{0.25, 0.75});
  CHECK(shares(Weighting::Examples, Counts{3}) == std::vector<double>{1.0});
  CHECK(shares(Weighting::Uniform, Counts{1, 3}) == std::vector<double>{0.5, 0.5});
}

TEST_CASE("shares: whoever has no examples has no share") {
  CHECK(shares(Weighting::Examples, Counts{0, 4}) == std::vector<double>{0.0, 1.0});
  CHECK(shares(Weighting::Uniform, Counts{0, 4}) == std::vector<double>{0.0, 1.0});
  CHECK_THROWS_AS(shares(Weighting::Uniform, Counts{0, 0}), core::InvalidArgument);
  CHECK_THROWS_AS(shares(Weighting::Examples, Counts{}), core::InvalidArgument);
}

TEST_CASE("shares: counts that overflow 64 bits together do not wrap") {
  const auto result = shares(Weighting::Examples, Counts{~std::uint64_t{0}, ~std::uint64_t{0}});
  CHECK(result == std::vector<double>{0.5, 0.5});
}

TEST_CASE("weighting_of: reads the configuration") {
  CHECK(weighting_of("examples") == Weighting::Examples);
  CHECK(weighting_of("uniform") == Weighting::Uniform);
  CHECK_THROWS_AS(weighting_of("loss"), core::ConfigError);
}

}  // namespace
}  // namespace drystone::aggregation
