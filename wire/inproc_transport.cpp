#include "wire/inproc_transport.h"

#include <map>
#include <mutex>
#include <utility>

#include "core/channel.h"

namespace drystone::wire {

namespace {

std::uint64_t frame_bytes(const Frames& frames) {
  return frames.header.size() + frames.data.size();
}

/// What goes through a channel: a message's frames, or a wake-up call.
struct Item {
  std::string client;  ///< sender; empty from the server
  Frames frames;
  bool is_wake_up = false;
};

Item wake_up() { return {.client = {}, .frames = {}, .is_wake_up = true}; }

/// One client's half of its connection.
struct ClientLink {
  core::Channel<Item> inbox;
  bool is_called = false;  ///< guarded by the wires' mutex
};

}  // namespace

/// What the ends share.
struct InprocHub::Wires {
  class Server;
  class Client;

  core::Channel<Item> to_server;
  std::atomic<std::uint64_t> bytes_given{0};
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<ClientLink>> clients;  ///< guarded by mutex
  std::vector<std::string> called;                             ///< likewise

  /// Puts an item into a client's inbox, if there is such an end.
  void deliver(const std::string& name, Item item) {
    const std::scoped_lock lock(mutex);
    const auto found = clients.find(name);
    if (found == clients.end()) return;
    ClientLink& link = *found->second;
    link.inbox.send(std::move(item));
    if (!std::exchange(link.is_called, true)) called.push_back(name);
  }

  std::shared_ptr<ClientLink> find(const std::string& name) {
    const std::scoped_lock lock(mutex);
    const auto found = clients.find(name);
    return found == clients.end() ? nullptr : found->second;
  }
};

class InprocHub::Wires::Server final : public ServerTransport {
 public:
  explicit Server(std::shared_ptr<Wires> wires) : wires_(std::move(wires)) {}

  void send(const std::string& client, Message message) override {
    if (wires_->find(client) == nullptr) return;
    Frames frames = encode(std::move(message));
    bytes_sent_ += frame_bytes(frames);
    wires_->deliver(client, {.client = {}, .frames = std::move(frames)});
  }

  std::optional<Incoming> receive(std::chrono::milliseconds timeout) override {
    auto item = wires_->to_server.receive_for(timeout);
    if (!item || item->is_wake_up) return std::nullopt;
    bytes_received_ += frame_bytes(item->frames);
    return Incoming{.client = std::move(item->client), .message = decode(std::move(item->frames))};
  }

  void wake() override { wires_->to_server.send(wake_up()); }
  std::uint64_t bytes_received() const override { return bytes_received_; }
  std::uint64_t bytes_sent() const override { return bytes_sent_ + wires_->bytes_given; }

 private:
  std::shared_ptr<Wires> wires_;
  std::uint64_t bytes_received_ = 0;
  std::uint64_t bytes_sent_ = 0;
};

class InprocHub::Wires::Client final : public ClientTransport {
 public:
  Client(std::shared_ptr<Wires> wires, std::string name)
      : wires_(std::move(wires)), name_(std::move(name)), link_(std::make_shared<ClientLink>()) {
    const std::scoped_lock lock(wires_->mutex);
    wires_->clients[name_] = link_;
  }

  ~Client() override {
    const std::scoped_lock lock(wires_->mutex);
    const auto found = wires_->clients.find(name_);
    if (found != wires_->clients.end() && found->second == link_) wires_->clients.erase(found);
  }

  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void send(Message message) override {
    if (wires_->find(name_) != link_) return;  // replaced by a later end
    Frames frames = encode(std::move(message));
    bytes_sent_ += frame_bytes(frames);
    wires_->to_server.send({.client = name_, .frames = std::move(frames)});
  }

  bool can_send() override { return true; }

  std::optional<core::Expected<Message>> receive(std::chrono::milliseconds timeout) override {
    auto item = link_->inbox.receive_for(timeout);
    if (!item || item->is_wake_up) return std::nullopt;
    bytes_received_ += frame_bytes(item->frames);
    return decode(std::move(item->frames));
  }

  void wake() override { link_->inbox.send(wake_up()); }
  std::uint64_t connections() const override { return 1; }
  std::uint64_t bytes_received() const override { return bytes_received_; }
  std::uint64_t bytes_sent() const override { return bytes_sent_; }

 private:
  std::shared_ptr<Wires> wires_;
  std::string name_;
  std::shared_ptr<ClientLink> link_;
  std::uint64_t bytes_received_ = 0;
  std::uint64_t bytes_sent_ = 0;
};

InprocHub::InprocHub() : wires_(std::make_shared<Wires>()) {}
InprocHub::~InprocHub() = default;

std::unique_ptr<ServerTransport> InprocHub::server() {
  return std::make_unique<Wires::Server>(wires_);
}

std::unique_ptr<ClientTransport> InprocHub::connect(const std::string& name) {
  return std::make_unique<Wires::Client>(wires_, name);
}

std::vector<std::string> InprocHub::take_called() {
  const std::scoped_lock lock(wires_->mutex);
  std::vector<std::string> called = std::exchange(wires_->called, {});
  for (const std::string& name : called) {
    const auto found = wires_->clients.find(name);
    if (found != wires_->clients.end()) found->second->is_called = false;
  }
  return called;
}

void InprocHub::count_sent(std::uint64_t bytes) { wires_->bytes_given += bytes; }

}  // namespace drystone::wire
