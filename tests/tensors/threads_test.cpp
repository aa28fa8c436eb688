#include "tensors/threads.h"

#include <future>
#include <thread>

#include <ATen/Parallel.h>
#include <doctest/doctest.h>

#include "core/error.h"

namespace drystone::tensors {
namespace {

TEST_CASE("use_threads: a call elsewhere does not change this thread's number") {
  std::promise<void> set;
  std::promise<void> disturbed;
  int seen = 0;
  std::thread worker([&] {
    use_threads(3);
    set.set_value();
    disturbed.get_future().wait();
    seen = at::get_num_threads();
  });
  set.get_future().wait();
  use_threads(2);
  disturbed.set_value();
  worker.join();
  CHECK(seen == 3);
  CHECK(at::get_num_threads() == 2);
  use_threads(1);
  CHECK(at::get_num_threads() == 1);
  CHECK_THROWS_AS(use_threads(0), core::InvalidArgument);
}

}  // namespace
}  // namespace drystone::tensors
