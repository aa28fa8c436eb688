#include "tensors/process.h"

#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace drystone::tensors {

void tune_process() {
  constexpr int kOnlyIfUnset = 0;
  ::setenv("LRU_CACHE_CAPACITY", "32", kOnlyIfUnset);  // of LibTorch's wrapper of oneDNN
  ::setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128", kOnlyIfUnset);
#if defined(__GLIBC__)
  constexpr int kLargest = 1 << 30;
  if (std::getenv("MALLOC_MMAP_THRESHOLD_") == nullptr) ::mallopt(M_MMAP_THRESHOLD, kLargest);
  if (std::getenv("MALLOC_ARENA_MAX") == nullptr) ::mallopt(M_ARENA_MAX, 1);
  if (std::getenv("MALLOC_TRIM_THRESHOLD_") == nullptr) ::mallopt(M_TRIM_THRESHOLD, kLargest);
#endif
}

void give_back_freed_memory() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

}  // namespace drystone::tensors
