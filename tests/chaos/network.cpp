#include "tests/chaos/network.h"

#include <algorithm>
#include <utility>

#include "core/check.h"

namespace drystone::chaos {

namespace {

using namespace std::chrono_literals;
using Kind = Fault::Kind;

constexpr core::Instant kHeartbeatTimeout = 20s;
constexpr std::uint64_t kFastest = 10'000'000;  // bytes a second

}  // namespace

class Network::Server final : public wire::ServerTransport {
 public:
  explicit Server(Network& network) : network_(network) {}

  void send(const std::string& client, wire::Message message) override {
    const int number = network_.number_of(client);
    if (!network_.hooks_.on_sending(number, message)) return;
    const Link& link = network_.links_[index(number)];
    if (!link.is_connected || link.number != link.known_to_server) return;
    wire::Frames frames = wire::encode(std::move(message));
    bytes_sent_ += frames.header.size() + frames.data.size();
    network_.transmit(number, kDown, std::move(frames));
  }

  std::optional<wire::Incoming> receive(std::chrono::milliseconds timeout) override {
    while (!network_.inbox_.empty()) {
      Item item = std::move(network_.inbox_.front());
      network_.inbox_.pop_front();
      Link& link = network_.links_[index(item.client)];
      if (item.connection < link.known_to_server) continue;  // superseded
      link.known_to_server = item.connection;
      bytes_received_ += item.frames.header.size() + item.frames.data.size();
      return wire::Incoming{network_.names_[index(item.client)],
                            wire::decode(std::move(item.frames))};
    }
    network_.wanted_wait_ = timeout;
    return std::nullopt;
  }

  void wake() override {}
  std::uint64_t bytes_received() const override { return bytes_received_; }
  std::uint64_t bytes_sent() const override { return bytes_sent_; }

 private:
  Network& network_;
  std::uint64_t bytes_received_ = 0;
  std::uint64_t bytes_sent_ = 0;
};

Network::Network(Timeline& timeline, const Schedule& schedule, std::vector<std::string> names,
                 Hooks hooks)
    : timeline_(timeline),
      schedule_(schedule),
      random_({schedule.seed, 0, "", "network"}),
      names_(std::move(names)),
      hooks_(std::move(hooks)),
      links_(names_.size()) {
  for (const Fault& fault : schedule.faults) {
    if (fault.kind == Kind::Break) {
      timeline_.at(ms(fault.at), [this, fault] {
        if (!is_healed_) break_connection(fault.machine);
      });
    }
    if (fault.kind == Kind::Partition && ms(fault.amount) >= kHeartbeatTimeout) {
      timeline_.at(ms(fault.at) + kHeartbeatTimeout, [this, fault] {
        if (!is_healed_) break_connection(fault.machine);
      });
    }
  }
}

int Network::number_of(const std::string& name) const {
  const auto found = std::ranges::find(names_, name);
  core::ensure(found != names_.end(), "chaos: a message to an unknown client");
  return 1 + static_cast<int>(found - names_.begin());
}

std::unique_ptr<wire::ServerTransport> Network::server() {
  is_server_up_ = true;
  for (Link& link : links_) link.known_to_server = 0;
  return std::make_unique<Server>(*this);
}

void Network::server_goes_down() {
  is_server_up_ = false;
  inbox_.clear();
  for (int client = 1; client <= static_cast<int>(links_.size()); ++client) {
    break_connection(client);
  }
}

void Network::client_comes_up(int client) {
  Link& link = links_[index(client)];
  link.is_up = true;
  ++link.life;
  connect_later(client);
}

void Network::client_goes_down(int client) {
  Link& link = links_[index(client)];
  link.is_up = false;
  link.is_connected = false;
  ++link.life;
}

void Network::connect_later(int client) {
  const std::uint64_t life = links_[index(client)].life;
  timeline_.after(ms(5 + random_.below(400)),
                  [this, client, life] { try_to_connect(client, life); });
}

void Network::try_to_connect(int client, std::uint64_t life) {
  Link& link = links_[index(client)];
  if (link.life != life || link.is_connected) return;
  if (!is_server_up_ || is_parted(client, 3)) {
    timeline_.after(ms(100 + random_.below(3000)),
                    [this, client, life] { try_to_connect(client, life); });
    return;
  }
  link.number = ++num_connections_;
  link.is_connected = true;
  link.is_losing = false;
  link.last[kUp] = link.last[kDown] = {};
  hooks_.on_connected(client);
}

void Network::break_connection(int client) {
  Link& link = links_[index(client)];
  if (!std::exchange(link.is_connected, false)) return;
  ++link.life;
  if (link.is_up) connect_later(client);
}

void Network::heal() {
  is_healed_ = true;
  if (!schedule_.is_rough) return;
  for (int client = 1; client <= static_cast<int>(links_.size()); ++client) {
    break_connection(client);
  }
}

bool Network::is_parted(int client, int ways) const {
  if (is_healed_) return false;
  return std::ranges::any_of(schedule_.faults, [&](const Fault& fault) {
    return fault.kind == Kind::Partition && fault.machine == client && (fault.detail & ways) != 0 &&
           ms(fault.at) <= timeline_.now() && timeline_.now() < ms(fault.at + fault.amount);
  });
}

core::Instant Network::parted_until(int client, Way way) const {
  core::Instant until{};
  if (is_healed_) return until;
  for (const Fault& fault : schedule_.faults) {
    const bool is_this = fault.kind == Kind::Partition && fault.machine == client &&
                         (fault.detail & (way == kDown ? 1 : 2)) != 0;
    if (!is_this || timeline_.now() < ms(fault.at)) continue;
    until = std::max(until, ms(fault.at + fault.amount));
  }
  return until;
}

core::Instant Network::latency(int client, std::uint64_t bytes) {
  std::uint64_t rate = kFastest;
  for (const Fault& fault : schedule_.faults) {
    const bool is_slow = fault.kind == Kind::SlowLink && fault.machine == client && !is_healed_ &&
                         ms(fault.at) <= timeline_.now() &&
                         timeline_.now() < ms(fault.at + fault.amount);
    if (is_slow)
      rate = static_cast<std::uint64_t>(fault.detail) * (schedule_.has_large_payloads ? 50 : 1);
  }
  return ms(1 + random_.below(30)) + std::chrono::microseconds(bytes * 1'000'000 / rate);
}

const Fault* Network::fault_of(int client, Way way, std::uint64_t number) const {
  if (is_healed_) return nullptr;
  for (const Fault& fault : schedule_.faults) {
    const bool is_of_messages = fault.kind == Kind::Drop || fault.kind == Kind::Duplicate ||
                                fault.kind == Kind::Delay || fault.kind == Kind::Corrupt ||
                                fault.kind == Kind::Cut;
    if (is_of_messages && fault.machine == client && fault.detail == static_cast<int>(way) &&
        fault.at == number) {
      return &fault;
    }
  }
  return nullptr;
}

void Network::send(int client, wire::Message message) {
  if (!links_[index(client)].is_connected) return;
  transmit(client, kUp, wire::encode(std::move(message)));
}

/// The rest of this connection is lost with it.
void Network::lose(int client) {
  Link& link = links_[index(client)];
  if (std::exchange(link.is_losing, true)) return;
  timeline_.after(ms(random_.below(20'000)), [this, client, number = link.number] {
    if (links_[index(client)].number == number) break_connection(client);
  });
}

void Network::bend(const Fault& fault, Way way, wire::Frames& frames) {
  core::Bytes& part = !frames.data.empty() ? frames.data : frames.header;
  if (fault.kind == Kind::Cut) {
    part.resize(random_.below(part.size()));
    return;
  }
  // What nobody signs and a client believes is only lost: CURVE lets no such frame through.
  auto message = wire::decode(frames);
  const bool is_checked = message && (std::holds_alternative<wire::Chunk>(*message) || way == kUp);
  if (!is_checked) {
    frames.header.resize(frames.header.size() / 2);
    return;
  }
  part[random_.below(part.size())] ^= static_cast<std::uint8_t>(1U << random_.below(8));
}

void Network::transmit(int client, Way way, wire::Frames frames) {
  Link& link = links_[index(client)];
  const std::uint64_t number = link.num_messages[way]++;
  const Fault* fault = fault_of(client, way, number);
  if (link.is_losing && !schedule_.is_rough) return;
  core::Instant when = timeline_.now() + latency(client, frames.header.size() + frames.data.size());
  if (const core::Instant until = parted_until(client, way); until > timeline_.now()) {
    when += until - timeline_.now();
  }
  if (fault != nullptr) {
    if (fault->kind == Kind::Drop) return schedule_.is_rough ? void() : lose(client);
    if (fault->kind == Kind::Delay) when += ms(fault->amount);
    if (fault->kind == Kind::Corrupt || fault->kind == Kind::Cut) bend(*fault, way, frames);
    if (fault->kind == Kind::Duplicate) deliver(client, way, when + ms(fault->amount), frames);
  }
  const bool keeps_order = !schedule_.is_rough || fault == nullptr;
  if (keeps_order) when = link.last[way] = std::max(when, link.last[way]);
  deliver(client, way, when, std::move(frames));
}

void Network::deliver(int client, Way way, core::Instant when, wire::Frames frames) {
  auto item = std::make_shared<Item>(Item{client, links_[index(client)].number, std::move(frames)});
  timeline_.at(when, [this, way, item] { arrive(way, std::move(*item)); });
}

void Network::arrive(Way way, Item item) {
  const Link& link = links_[index(item.client)];
  if (way == kDown) {
    if (!link.is_connected || link.number != item.connection) return;
    return hooks_.on_message(item.client, wire::decode(std::move(item.frames)));
  }
  // What was under way when a connection broke may still be read.
  const bool is_current = link.is_connected && link.number == item.connection;
  if (!is_server_up_ || (!is_current && random_.below(2) == 0)) return;
  inbox_.push_back(std::move(item));
  largest_queue_ = std::max(largest_queue_, inbox_.size());
  hooks_.on_server_message();
}

}  // namespace drystone::chaos
