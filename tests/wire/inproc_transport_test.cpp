#include "wire/inproc_transport.h"

#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "tests/wire/samples.h"

using namespace drystone;
using namespace std::chrono_literals;

TEST_CASE("InprocHub: messages arrive in order under the connection's name") {
  wire::InprocHub hub;
  const auto server = hub.server();
  const auto client = hub.connect("client-3");
  CHECK(client->connections() == 1);
  for (const auto& message : test::sample_messages(1)) client->send(message);
  for (const auto& message : test::sample_messages(1)) {
    const auto incoming = server->receive(1s);
    REQUIRE(incoming.has_value());
    CHECK(incoming->client == "client-3");
    REQUIRE(incoming->message.has_value());
    CHECK(incoming->message->index() == message.index());
    server->send("client-3", *incoming->message);
    const auto answer = client->receive(1s);
    REQUIRE(answer.has_value());
    REQUIRE(answer->has_value());
    CHECK((*answer)->index() == message.index());
  }
  CHECK(server->bytes_received() == client->bytes_sent());
  CHECK(server->bytes_sent() == client->bytes_received());
  CHECK(server->bytes_sent() == server->bytes_received());
  server->send("nobody", wire::Done{});
  CHECK_FALSE(server->receive(0ms).has_value());
}

TEST_CASE("InprocHub: wake ends a wait, timeouts end by themselves") {
  wire::InprocHub hub;
  const auto server = hub.server();
  const auto client = hub.connect("a");
  CHECK_FALSE(client->receive(1ms).has_value());
  std::jthread waker([&] {
    server->wake();
    client->wake();
  });
  CHECK_FALSE(server->receive(1h).has_value());
  CHECK_FALSE(client->receive(1h).has_value());
}

TEST_CASE("InprocHub: the last connection of a name wins") {
  wire::InprocHub hub;
  const auto server = hub.server();
  const auto first = hub.connect("a");
  auto second = hub.connect("a");
  first->send(wire::Done{1});
  second->send(wire::Done{2});
  const auto incoming = server->receive(1s);
  REQUIRE(incoming.has_value());
  CHECK(std::get<wire::Done>(*incoming->message).version == 2);
  server->send("a", wire::Done{3});
  CHECK_FALSE(first->receive(0ms).has_value());
  CHECK(second->receive(1s).has_value());
  second.reset();
  const std::uint64_t sent = server->bytes_sent();
  server->send("a", wire::Done{4});
  CHECK(server->bytes_sent() == sent);  // there is nobody
  CHECK_FALSE(first->receive(0ms).has_value());
}

TEST_CASE("InprocHub: an end that was replaced takes nothing with it when it goes") {
  wire::InprocHub hub;
  const auto server = hub.server();
  auto first = hub.connect("a");
  const auto second = hub.connect("a");
  first.reset();
  server->send("a", wire::Done{1});
  CHECK(second->receive(1s).has_value());
}

TEST_CASE("InprocHub: many client threads, nothing lost") {
  constexpr int kClients = 8;
  constexpr int kMessages = 200;
  wire::InprocHub hub;
  const auto server = hub.server();
  std::vector<std::jthread> threads;
  threads.reserve(kClients);
  std::vector<int> echoes(kClients, 0);
  for (int i = 0; i < kClients; ++i) {
    threads.emplace_back([&hub, &echoes, i] {
      const auto client = hub.connect("client-" + std::to_string(i));
      for (int n = 0; n < kMessages; ++n) client->send(wire::Done{static_cast<std::uint64_t>(n)});
      while (echoes[static_cast<std::size_t>(i)] < kMessages) {
        const auto message = client->receive(10s);
        if (!message || std::get<wire::Done>(**message).version !=
                            static_cast<std::uint64_t>(echoes[static_cast<std::size_t>(i)]++)) {
          return;
        }
      }
    });
  }
  for (int n = 0; n < kClients * kMessages; ++n) {
    auto incoming = server->receive(10s);
    REQUIRE(incoming.has_value());
    server->send(incoming->client, std::move(*incoming->message));
  }
  threads.clear();
  for (const int echo : echoes) CHECK(echo == kMessages);
}

TEST_CASE("InprocHub: tells which ends something came for, each once") {
  wire::InprocHub hub;
  const auto server = hub.server();
  const auto a = hub.connect("a");
  const auto c = hub.connect("c");
  CHECK(hub.take_called().empty());
  server->send("c", wire::Done{1});
  server->send("a", wire::Done{1});
  server->send("c", wire::Done{2});
  server->send("nobody", wire::Done{3});
  CHECK(hub.take_called() == std::vector<std::string>{"c", "a"});
  CHECK(hub.take_called().empty());
  server->send("c", wire::Done{3});  // whatever lies there still unread
  CHECK(hub.take_called() == std::vector<std::string>{"c"});
}

TEST_CASE("InprocHub: what is given without a message counts as sent") {
  wire::InprocHub hub;
  const auto server = hub.server();
  hub.count_sent(1000);
  CHECK(server->bytes_sent() == 1000);
  CHECK(server->bytes_received() == 0);
}
