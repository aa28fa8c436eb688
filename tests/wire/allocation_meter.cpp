#include "tests/wire/allocation_meter.h"

#include <cstdlib>
#include <new>

namespace {

thread_local std::uint64_t num_requested = 0;

}  // namespace

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

void* operator new(std::size_t size) {
  num_requested += size;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

#endif

namespace drystone::test {

AllocationMeter::AllocationMeter() : start_(num_requested) {}

std::uint64_t AllocationMeter::num_bytes() const { return num_requested - start_; }

}  // namespace drystone::test
