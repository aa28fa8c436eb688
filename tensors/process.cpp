#include "tensors/process.h"

#include <cstddef>
#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

/// jemalloc's, where a program is linked with it or has it preloaded.
extern "C" int mallctl(const char* name, void* old_value, std::size_t* old_size, void* new_value,
                       std::size_t new_size) __attribute__((weak));

namespace drystone::tensors {

namespace {

bool has_jemalloc() { return mallctl != nullptr; }

#if defined(__GLIBC__)
void tune_glibc() {
  constexpr int kLargest = 1 << 30;
  if (std::getenv("MALLOC_MMAP_THRESHOLD_") == nullptr) ::mallopt(M_MMAP_THRESHOLD, kLargest);
  if (std::getenv("MALLOC_ARENA_MAX") == nullptr) ::mallopt(M_ARENA_MAX, 1);
  if (std::getenv("MALLOC_TRIM_THRESHOLD_") == nullptr) ::mallopt(M_TRIM_THRESHOLD, kLargest);
}
#endif

}  // namespace

void tune_process() {
  constexpr int kOnlyIfUnset = 0;
  ::setenv("LRU_CACHE_CAPACITY", "32", kOnlyIfUnset);  // of LibTorch's wrapper of oneDNN
  ::setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128", kOnlyIfUnset);
#if defined(__GLIBC__)
  if (!has_jemalloc()) tune_glibc();
#endif
}

void give_back_freed_memory() {
  constexpr const char* kOfAllArenas = "arena.4096.purge";  // MALLCTL_ARENAS_ALL
  if (has_jemalloc()) {
    ::mallctl(kOfAllArenas, nullptr, nullptr, nullptr, 0);
    return;
  }
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

}  // namespace drystone::tensors
