#pragma once
// LibTorch's default generator starts from another seed in every process.

#include <ATen/CPUGeneratorImpl.h>

namespace drystone::test {

/// One for a test program, the same numbers in every run.
inline at::Generator& generator() {
  static at::Generator made = at::detail::createCPUGenerator(/*seed_val=*/1);
  return made;
}

}  // namespace drystone::test
