#include "core/client_list.h"

#include <doctest/doctest.h>

using namespace drystone;

TEST_CASE("list_clients: every group spelled out, numbered in the file's order") {
  core::Config config;
  config.clients.push_back({.count = 2, .training = {.rank = 64}});
  config.clients.push_back({.count = 1, .training = {.rank = 8}});
  const auto clients = core::list_clients(config);
  REQUIRE(clients.size() == 3);
  CHECK(clients[0].name == "client-1");
  CHECK(clients[1].training.rank == 64);
  CHECK(clients[2].name == "client-3");
  CHECK(clients[2].training.rank == 8);
}

TEST_CASE("list_clients: names sort as their numbers do") {
  core::Config config;
  config.clients.push_back({.count = 120, .training = {}});
  const auto clients = core::list_clients(config);
  CHECK(clients.front().name == "client-001");
  for (std::size_t i = 1; i < clients.size(); ++i) CHECK(clients[i - 1].name < clients[i].name);
}

TEST_CASE("list_clients: no group means one client with the defaults") {
  core::Config config;
  config.training.rank = 5;
  const auto clients = core::list_clients(config);
  REQUIRE(clients.size() == 1);
  CHECK(clients[0].training == config.training);
}

TEST_CASE("ClientList: is what list_clients spells out") {
  core::Config config;
  for (const std::int64_t count : {3, 1, 8}) {
    config.clients.push_back({.count = count, .training = {.rank = count}});
  }
  const core::ClientList list(config);
  const auto clients = core::list_clients(config);
  REQUIRE(list.size() == clients.size());
  for (std::size_t i = 0; i < clients.size(); ++i) {
    CAPTURE(i);
    CHECK(list[i].name == clients[i].name);
    CHECK(list[i].training == clients[i].training);
    CHECK(list.find(clients[i].name) == i);
    const std::size_t kind = list.kind_of(i);
    CHECK(list.first(kind) <= i);
    CHECK(i < list.first(kind) + list.count(kind));
    CHECK(list[i].training.rank == static_cast<std::int64_t>(list.count(kind)));
  }
  CHECK(list.first_of_each_kind().size() == 3);
  CHECK_FALSE(list.find(core::kEvaluatorName).has_value());
}
