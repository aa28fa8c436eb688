#include "wire/zap_handler.h"

#include <algorithm>
#include <array>
#include <exception>
#include <string_view>

#include "core/log.h"
#include "wire/limits.h"
#include "wire/text.h"

namespace drystone::wire {

namespace {

// Frames of a request, RFC 27.
enum RequestPart : std::size_t {
  VersionPart,
  RequestIdPart,
  DomainPart,
  AddressPart,
  RoutingIdPart,
  MechanismPart,
  CurveKeyPart,
  NumRequestParts
};

std::string_view text_of(const Parts& request, RequestPart part) {
  return request.kept[part].to_string_view();
}

}  // namespace

std::string user_id(const crypto::PublicKey& key) { return core::to_hex(key); }

ZapHandler::ZapHandler(zmq::context_t& context, const crypto::Roster& roster)
    : socket_(context, zmq::socket_type::rep) {
  set_roster(roster);
  socket_.set(zmq::sockopt::linger, 0);
  socket_.bind("inproc://zeromq.zap.01");
  thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
}

void ZapHandler::set_roster(const crypto::Roster& roster) {
  std::map<crypto::PublicKey, std::string> clients;
  for (const auto& [name, entry] : roster.clients) clients.emplace(entry.identity.curve, name);
  const std::scoped_lock lock(mutex_);
  clients_ = std::move(clients);
}

void ZapHandler::serve(const std::stop_token& stop) {
  constexpr std::chrono::milliseconds kTick(100);
  std::vector<zmq::pollitem_t> items = {{socket_.handle(), 0, ZMQ_POLLIN, 0}};
  while (!stop.stop_requested()) {
    try {
      poll_sockets(items, kTick);
      if (const auto request = receive_parts(socket_, NumRequestParts)) answer(*request);
    } catch (const std::exception& error) {  // nobody gets in while this thread cannot answer
      core::log_error("authentication failed", {{"reason", std::string_view(error.what())}});
      std::this_thread::sleep_for(kTick);
    }
  }
}

std::optional<crypto::PublicKey> ZapHandler::find_key(const Parts& request) const {
  crypto::PublicKey key{};
  if (request.num_parts != NumRequestParts || text_of(request, VersionPart) != "1.0" ||
      text_of(request, DomainPart) != kZapDomain || text_of(request, MechanismPart) != "CURVE" ||
      request.kept[CurveKeyPart].size() != key.size()) {
    return std::nullopt;
  }
  std::ranges::copy(core::as_bytes(text_of(request, CurveKeyPart)), key.begin());
  return key;
}

/// Empty: nobody's.
std::string ZapHandler::name_of(const crypto::PublicKey& key) {
  const std::scoped_lock lock(mutex_);
  const auto found = clients_.find(key);
  return found == clients_.end() ? std::string() : found->second;
}

void ZapHandler::answer(const Parts& request) {
  const auto key = find_key(request);
  const std::string client = key ? name_of(*key) : std::string();
  if (client.empty()) count_refusal(request);
  const bool is_put_off = !client.empty() && !is_within_rate(client);
  // 300 is "later": the client's end just tries again.
  const std::string_view status = client.empty() ? "400" : is_put_off ? "300" : "200";
  const std::string id = status == "200" ? user_id(*key) : std::string();
  const std::string_view request_id =
      request.kept.size() > RequestIdPart ? text_of(request, RequestIdPart) : std::string_view();
  const std::array<std::string_view, 6> reply = {
      "1.0",
      request_id,
      status,
      !id.empty() ? "OK" : is_put_off ? "too many connections" : "the key is not in the roster",
      id,
      ""};
  for (std::size_t i = 0; i < reply.size(); ++i) {
    const auto more = i + 1 < reply.size() ? zmq::send_flags::sndmore : zmq::send_flags::none;
    socket_.send(zmq::const_buffer(reply[i].data(), reply[i].size()),
                 more | zmq::send_flags::dontwait);
  }
}

bool ZapHandler::is_within_rate(const std::string& client) {
  const auto now = std::chrono::steady_clock::now();
  const bool allowed =
      rates_.try_emplace(client, kHandshakeRate).first->second.allows(now.time_since_epoch());
  if (!allowed && log_limit_.allows(now)) {
    core::log_warning("connection put off: its key connects over and over",
                      {{"client", std::string_view(client)}});
  }
  return allowed;
}

void ZapHandler::count_refusal(const Parts& request) {
  const std::uint64_t count = ++num_refused_;
  if (!log_limit_.allows(std::chrono::steady_clock::now())) return;
  const std::string address = request.kept.size() > AddressPart
                                  ? clean_text(text_of(request, AddressPart), 100)
                                  : "unknown";
  core::log_warning("connection refused: its key is not in the roster",
                    {{"reason", core::name(core::Refusal::UnknownClient)},
                     {"address", std::string_view(address)},
                     {"refused", static_cast<std::int64_t>(count)}});
}

}  // namespace drystone::wire
