#include "models/product_form.h"

#include <doctest/doctest.h>

using namespace drystone;

TEST_CASE("product form: many tokens and high ranks pay for an effective weight") {
  const auto prefers = [](std::int64_t tokens, std::int64_t rank) {
    return models::prefers_effective_weight(
        {.tokens = tokens, .in = 768, .out = 768, .rank = rank});
  };
  CHECK_FALSE(prefers(1, 64));
  CHECK_FALSE(prefers(128, 64));
  CHECK(prefers(4096, 64));
}

TEST_CASE("product form: once it pays, it pays for more tokens too") {
  for (const bool quantized : {false, true}) {
    for (const std::int64_t rank : {1, 8, 64, 256}) {
      bool paid = false;
      for (std::int64_t tokens = 1; tokens <= 1 << 16; tokens *= 2) {
        const bool pays = models::prefers_effective_weight(
            {.tokens = tokens, .in = 768, .out = 3072, .rank = rank, .quantized = quantized});
        CHECK((pays || !paid));
        paid = pays;
      }
      CHECK(paid);
    }
  }
}
