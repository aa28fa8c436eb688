#pragma once
// How much rank a layer can use.

#include <cstdint>
#include <string_view>

namespace drystone::adapters {

struct UsefulRank {
  std::int64_t rank = 0;
  bool is_limit = false;  ///< the method cannot be made with more
};

/// Of a product B · A the smaller of its sides; of SBoRA, whose rank counts basis vectors, the side
/// that it picks them from.
UsefulRank useful_rank(std::string_view method, std::int64_t out, std::int64_t in);

}  // namespace drystone::adapters
