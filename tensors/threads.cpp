#include "tensors/threads.h"

#include <ATen/Parallel.h>

#include "core/check.h"

namespace drystone::tensors {

void use_threads(int num_threads) {
  core::require(num_threads >= 1, "use_threads: at least one thread is needed");
  at::internal::lazy_init_num_threads();  // else the first operation would fetch another's number
  at::set_num_threads(num_threads);
}

int threads_in_use() { return at::get_num_threads(); }

}  // namespace drystone::tensors
