// Fuzz target: safetensors, as weights and as a client's factors. What is accepted lies within the
// bytes, and factors read from it are written and read again.

#include <cstdlib>

#include <ATen/ops/ones.h>

#include "core/seed.h"
#include "tensors/factor_set_io.h"
#include "tests/fuzz/fuzz_target.h"

using namespace drystone;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const core::ByteView bytes(data, size);
  const auto header = tensors::parse_safetensors(bytes);
  if (!header) return 0;
  for (const auto& [name, info] : header->tensors) {
    const core::ByteView part = tensors::tensor_bytes(*header, info, bytes);
    if (part.data() < bytes.data() || part.data() + part.size() > bytes.data() + size) std::abort();
    tensors::copy_tensor(info, part);
  }
  const auto shapes = tensors::describe(*header);
  if (shapes && tensors::check_selectors(*header, *shapes, bytes)) {
    const auto set = tensors::factor_set_from_bytes(bytes);
    if (!set) std::abort();
    if (!set->modules.empty() && !tensors::factor_set_from_bytes(tensors::to_bytes(*set))) {
      std::abort();
    }
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  core::SplitMix64 random(seed);
  tensors::FactorSet set;
  for (std::uint64_t i = 0; i <= random.below(3); ++i) {
    const auto rank = static_cast<std::int64_t>(1 + random.below(3));
    set.modules["m." + std::to_string(i)] = {.b = at::ones({3, rank}), .a = at::ones({rank, 2})};
  }
  if (seed % 2 == 0) set.dense["head.weight"] = at::ones({2, 2});
  return {tensors::to_bytes(set), tensors::update_to_bytes(set)};
}

}  // namespace drystone::test
