#include "adapters/useful_rank.h"

#include <algorithm>

namespace drystone::adapters {

UsefulRank useful_rank(std::string_view method, std::int64_t out, std::int64_t in) {
  if (method == "sbora-fa") return {.rank = in, .is_limit = true};
  if (method == "sbora-fb") return {.rank = out, .is_limit = true};
  return {.rank = std::min(out, in)};
}

}  // namespace drystone::adapters
