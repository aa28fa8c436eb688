#pragma once
// Connections between the coordinator and each client, as ZeroMQ over TCP makes them: in order
// while they last, broken by what is lost. A rough network also loses, doubles and reorders.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/seed.h"
#include "tests/chaos/schedule.h"
#include "tests/chaos/timeline.h"
#include "wire/transport.h"

namespace drystone::chaos {

class Network {
 public:
  struct Hooks {
    std::function<void()> on_server_message;
    std::function<void(int client)> on_connected;
    std::function<void(int client, core::Expected<wire::Message>)> on_message;
    /// What the coordinator sends, and whether it still can.
    std::function<bool(int client, const wire::Message&)> on_sending;
  };

  Network(Timeline& timeline, const Schedule& schedule, std::vector<std::string> names,
          Hooks hooks);

  /// The coordinator's end, of one life.
  std::unique_ptr<wire::ServerTransport> server();
  void server_goes_down();
  void client_comes_up(int client);
  void client_goes_down(int client);
  bool is_connected(int client) const { return links_.at(index(client)).is_connected; }
  void send(int client, wire::Message message);
  void break_connection(int client);
  /// No planned fault comes any more.
  void heal();

  /// What the coordinator said it waits for at most when it last found nothing.
  std::chrono::milliseconds wanted_wait() const { return wanted_wait_; }
  std::size_t largest_queue() const { return largest_queue_; }

 private:
  class Server;
  enum Way : int { kUp = 0, kDown = 1 };
  struct Link {
    std::uint64_t number = 0;  ///< of the connection
    bool is_up = false;        ///< the client lives
    bool is_connected = false;
    bool is_losing = false;  ///< something was lost: nothing more arrives, it will break
    std::uint64_t life = 0;
    std::uint64_t known_to_server = 0;
    std::uint64_t num_messages[2] = {0, 0};
    core::Instant last[2] = {};
  };
  struct Item {
    int client = 0;
    std::uint64_t connection = 0;
    wire::Frames frames;
  };

  static std::size_t index(int client) { return static_cast<std::size_t>(client - 1); }
  int number_of(const std::string& name) const;
  void connect_later(int client);
  void try_to_connect(int client, std::uint64_t life);
  bool is_parted(int client, int ways) const;
  core::Instant parted_until(int client, Way way) const;
  core::Instant latency(int client, std::uint64_t bytes);
  const Fault* fault_of(int client, Way way, std::uint64_t number) const;
  void transmit(int client, Way way, wire::Frames frames);
  void bend(const Fault& fault, Way way, wire::Frames& frames);
  void lose(int client);
  void deliver(int client, Way way, core::Instant when, wire::Frames frames);
  void arrive(Way way, Item item);
  core::Instant ms(std::uint64_t count) const { return std::chrono::milliseconds(count); }

  Timeline& timeline_;
  const Schedule& schedule_;
  core::SplitMix64 random_;
  std::vector<std::string> names_;
  Hooks hooks_;
  std::vector<Link> links_;
  bool is_server_up_ = false;
  bool is_healed_ = false;
  std::deque<Item> inbox_;
  std::uint64_t num_connections_ = 0;
  std::chrono::milliseconds wanted_wait_{0};
  std::size_t largest_queue_ = 0;
};

}  // namespace drystone::chaos
