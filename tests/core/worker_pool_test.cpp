#include "core/worker_pool.h"

#include <atomic>
#include <stdexcept>
#include <vector>

#include <doctest/doctest.h>

using drystone::core::WorkerPool;
using namespace std::chrono_literals;

TEST_CASE("WorkerPool: continuations run on the owner's thread, one for each task") {
  WorkerPool pool(3);
  const auto owner = std::this_thread::get_id();
  std::vector<int> results;
  for (int i = 0; i < 20; ++i) {
    pool.post([&results, owner, i] {
      CHECK(std::this_thread::get_id() != owner);
      return [&results, owner, i] {
        CHECK(std::this_thread::get_id() == owner);
        results.push_back(i);
      };
    });
  }
  while (results.size() < 20) REQUIRE(pool.run_finished(10s));
  CHECK_FALSE(pool.run_finished(0ms));
}

TEST_CASE("WorkerPool: one worker keeps the order") {
  WorkerPool pool(1);
  std::vector<int> results;
  for (int i = 0; i < 5; ++i) pool.post([&, i] { return [&, i] { results.push_back(i); }; });
  while (results.size() < 5) REQUIRE(pool.run_finished(10s));
  CHECK(results == std::vector<int>{0, 1, 2, 3, 4});
}

TEST_CASE("WorkerPool: a task's exception comes out at the owner, and the worker goes on") {
  WorkerPool pool(1);
  bool done = false;
  pool.post([]() -> WorkerPool::Continuation { throw std::runtime_error("task failed"); });
  CHECK_THROWS_WITH_AS(pool.run_finished(10s), "task failed", std::runtime_error);
  pool.post([&] { return [&] { done = true; }; });
  CHECK(pool.run_finished(10s));
  CHECK(done);
}

TEST_CASE("WorkerPool: hooks run on every worker and after every task") {
  std::atomic<int> started = 0;
  std::atomic<int> finished = 0;
  {
    WorkerPool pool(2, {.on_thread_start = [&] { ++started; }, .on_finished = [&] { ++finished; }});
    int done = 0;
    for (int i = 0; i < 4; ++i) pool.post([&] { return [&] { ++done; }; });
    while (done < 4) REQUIRE(pool.run_finished(10s));
  }
  CHECK(started == 2);
  CHECK(finished == 4);
}

TEST_CASE("WorkerPool: closing drops what nobody has begun") {
  std::atomic<int> begun = 0;
  {
    WorkerPool pool(1);
    for (int i = 0; i < 1000; ++i) {
      pool.post([&] {
        ++begun;
        std::this_thread::sleep_for(1ms);
        return [] {};
      });
    }
  }
  CHECK(begun < 1000);
}
