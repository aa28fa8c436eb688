#include "simulation/process_messages.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "core/error.h"

namespace drystone::simulation {

namespace {

class Writer {
 public:
  void number(std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) {
      bytes_.push_back(static_cast<std::uint8_t>(value >> shift));
    }
  }
  void real(double value) { number(std::bit_cast<std::uint64_t>(value)); }
  void bytes(core::ByteView value) {
    number(value.size());
    bytes_.insert(bytes_.end(), value.begin(), value.end());
  }
  void text(const std::string& value) { bytes(core::as_bytes(value)); }
  core::Bytes take() { return std::move(bytes_); }

 private:
  core::Bytes bytes_;
};

[[noreturn]] void unreadable() {
  throw core::Error(
      "another process sent a message that cannot be read; start all processes from one build");
}

class Reader {
 public:
  explicit Reader(core::ByteView rest) : rest_(rest) {}

  std::uint64_t number() {
    const core::ByteView digits = next(sizeof(std::uint64_t));
    std::uint64_t value = 0;
    for (std::size_t i = digits.size(); i > 0; --i) value = (value << 8) | digits[i - 1];
    return value;
  }
  double real() { return std::bit_cast<double>(number()); }
  core::ByteView view() { return next(number()); }
  core::Bytes bytes() {
    const core::ByteView found = view();
    return {found.begin(), found.end()};
  }
  std::string text() { return std::string(core::as_text(view())); }
  template <std::size_t N>
  void fill(std::array<std::uint8_t, N>& value) {
    const core::ByteView found = view();
    if (found.size() != N) unreadable();
    std::ranges::copy(found, value.begin());
  }
  /// Of a list whose entries take some bytes each.
  std::uint64_t count() {
    const std::uint64_t found = number();
    if (found > rest_.size()) unreadable();
    return found;
  }
  void end() const {
    if (!rest_.empty()) unreadable();
  }

 private:
  core::ByteView next(std::uint64_t size) {
    if (size > rest_.size()) unreadable();
    const core::ByteView found = rest_.first(size);
    rest_ = rest_.subspan(size);
    return found;
  }

  core::ByteView rest_;
};

void write(Writer& out, const std::optional<client::ClientMemory::Kept>& memory) {
  out.number(memory ? 1 : 0);
  if (!memory) return;
  out.number(memory->round);
  out.bytes(memory->file);
}

std::optional<client::ClientMemory::Kept> read_memory(Reader& in) {
  if (in.number() == 0) return std::nullopt;
  const std::uint64_t round = in.number();
  return client::ClientMemory::Kept{.round = round, .file = in.bytes()};
}

void write(Writer& out, const PublishedVersion& message) {
  out.bytes(message.manifest.bytes);
  out.bytes(message.manifest.signature);
  out.bytes(message.payload);
}

void read(Reader& in, PublishedVersion& message) {
  message.manifest.bytes = in.bytes();
  in.fill(message.manifest.signature);
  message.payload = in.bytes();
}

void write(Writer& out, const SlotOrder& message) {
  const wire::RoundPlan& plan = message.plan;
  out.number(message.slot);
  out.number(message.together ? 1 : 0);
  out.text(plan.federation);
  out.number(plan.round);
  out.number(plan.attempt);
  out.number(plan.base_version);
  out.bytes(plan.base_head);
  out.number(plan.seed);
  out.text(plan.start);
  out.number(message.rounds);
  out.number(message.clients.size());
  for (const ClientOrder& one : message.clients) {
    out.text(one.client);
    write(out, one.memory);
  }
}

void read(Reader& in, SlotOrder& message) {
  wire::RoundPlan& plan = message.plan;
  message.slot = in.number();
  message.together = in.number() != 0;
  plan.federation = in.text();
  plan.round = in.number();
  plan.attempt = in.number();
  plan.base_version = in.number();
  in.fill(plan.base_head);
  plan.seed = in.number();
  plan.start = in.text();
  message.rounds = in.number();
  for (std::uint64_t count = in.count(); count > 0; --count) {
    ClientOrder& one = message.clients.emplace_back();
    one.client = in.text();
    one.memory = read_memory(in);
  }
}

constexpr std::array kReadyTexts = {&Ready::host,        &Ready::software,   &Ready::base_sha256,
                                    &Ready::data_sha256, &Ready::federation, &Ready::device,
                                    &Ready::processor};

void write(Writer& out, const Ready& message) {
  for (const auto field : kReadyTexts) out.text(message.*field);
  out.number(message.num_workers);
}

void read(Reader& in, Ready& message) {
  for (const auto field : kReadyTexts) message.*field = in.text();
  message.num_workers = in.number();
}

void write(Writer& out, const client::Update& update) {
  out.bytes(update.payload);
  out.bytes(wire::encode(update.answer.manifest));
  out.bytes(update.answer.base_head);
  out.real(update.answer.seconds);
}

client::Update read_update(Reader& in) {
  client::Update update;
  update.payload = in.bytes();
  auto manifest = wire::decode_update(in.view());
  if (!manifest) unreadable();
  update.answer.manifest = *std::move(manifest);
  in.fill(update.answer.base_head);
  update.answer.seconds = in.real();
  return update;
}

void write(Writer& out, const SlotAnswer& message) {
  out.number(message.slot);
  out.number(message.clients.size());
  for (const ClientAnswer& one : message.clients) {
    out.number(one.update ? 1 : 0);
    if (one.update) write(out, *one.update);
    out.text(one.failure);
    write(out, one.memory);
  }
}

void read(Reader& in, SlotAnswer& message) {
  message.slot = in.number();
  for (std::uint64_t count = in.count(); count > 0; --count) {
    ClientAnswer& one = message.clients.emplace_back();
    if (in.number() != 0) one.update = read_update(in);
    one.failure = in.text();
    one.memory = read_memory(in);
  }
}

void write(Writer& out, const Trouble& message) {
  out.text(message.host);
  out.text(message.reason);
}

void read(Reader& in, Trouble& message) {
  message.host = in.text();
  message.reason = in.text();
}

template <std::size_t Kind = 0>
ProcessMessage read_kind(Reader& in, std::uint64_t kind) {
  if constexpr (Kind < std::variant_size_v<ProcessMessage>) {
    if (kind != Kind) return read_kind<Kind + 1>(in, kind);
    std::variant_alternative_t<Kind, ProcessMessage> message;
    read(in, message);
    in.end();
    return message;
  } else {
    unreadable();
  }
}

}  // namespace

std::shared_ptr<const core::Bytes> encode(const ProcessMessage& message) {
  Writer out;
  out.number(message.index());
  std::visit([&](const auto& one) { write(out, one); }, message);
  return std::make_shared<const core::Bytes>(out.take());
}

ProcessMessage decode_process_message(core::ByteView bytes) {
  Reader in(bytes);
  const std::uint64_t kind = in.number();
  return read_kind(in, kind);
}

}  // namespace drystone::simulation
