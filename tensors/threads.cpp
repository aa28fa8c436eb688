#include "tensors/threads.h"

#include <ATen/Parallel.h>

#include "core/check.h"

namespace drystone::tensors {

void use_threads(int num_threads) {
  core::require(num_threads >= 1, "use_threads: at least one thread is needed");
  // The flag "this thread has its number" exists twice: in LibTorch and, through its inline
  // at::parallel_for, in this program. Unless both are set, the first operation fetches the number
  // that some other thread set last.
  at::get_num_threads();
  at::internal::lazy_init_num_threads();
  at::set_num_threads(num_threads);
}

}  // namespace drystone::tensors
