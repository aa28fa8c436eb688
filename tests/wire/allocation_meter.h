#pragma once
// Counts what this thread takes from the heap, by replacing the global operator new of the test
// binary.

#include <cstdint>

namespace drystone::test {

class AllocationMeter {
 public:
  AllocationMeter();
  /// Bytes requested by this thread since the meter was made; freed ones are not taken off. Always
  /// 0 under a sanitizer, which needs operator new for itself.
  std::uint64_t num_bytes() const;

 private:
  std::uint64_t start_;
};

}  // namespace drystone::test
