#include "simulation/helpers.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <utility>

#include <unistd.h>

#include "coordinator/federation_id.h"
#include "core/check.h"
#include "core/log.h"
#include "core/mapped_file.h"
#include "core/program.h"
#include "simulation/relay.h"
#include "wire/limits.h"

namespace drystone::simulation {

using namespace std::chrono_literals;

namespace {

std::string called(int process, const std::string& host) {
  return "process " + std::to_string(process) + " on " + host;
}

std::string processor_name() {
  std::ifstream lines("/proc/cpuinfo");
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 1);
  }
  return "";
}

SlotOrder order_of(std::uint64_t number, const SlotTraining& slot) {
  const client::TrainJob& first = slot.jobs.front().job;
  SlotOrder order{
      .slot = number, .together = slot.together, .plan = *first.plan, .rounds = first.rounds};
  for (const client::GroupJob& one : slot.jobs) {
    const client::ClientMemory memory(one.settings.memory, first.plan->federation);
    order.clients.push_back({one.settings.client, memory.carry_before(first.plan->round)});
  }
  return order;
}

client::JobResult result_of(client::GroupJob& given, ClientAnswer answer) {
  if (answer.memory) {
    client::ClientMemory(given.settings.memory, given.job.plan->federation).put(*answer.memory);
  }
  return {.job = std::move(given.job),
          .trained = std::move(answer.update),
          .evaluated = {},
          .failure = std::move(answer.failure)};
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

Ready introduce(const Members& members, const core::Config& config, std::size_t num_workers) {
  const std::string device = members.compute_device();
  return {.host = host_name(),
          .software = core::version(),
          .base_sha256 = config.model.sha256,
          .data_sha256 = members.data_sha256(),
          .federation = coordinator::federation_id(config),
          .device = device.substr(0, device.find(':')),
          .processor = processor_name(),
          .num_workers = num_workers};
}

Helpers::Helpers(Link& link, const Ready& own, std::function<void()> wake, std::stop_token stop)
    : link_(link), own_(own), stop_(std::move(stop)) {
  const auto num_others = static_cast<std::size_t>(link_.num_processes() - 1);
  while (helpers_.size() < num_others && !stop_.stop_requested()) receive(100ms);
  core::log_info("other processes help", {{"processes", static_cast<std::int64_t>(helpers_.size())},
                                          {"workers", static_cast<std::int64_t>(num_workers())}});
  link_.on_arrival(std::move(wake));
}

std::size_t Helpers::num_workers() const {
  std::size_t sum = 0;
  for (const auto& [process, helper] : helpers_) sum += helper.num_workers;
  return sum;
}

std::size_t Helpers::num_idle() const {
  std::size_t most = 0;
  for (const auto& [process, helper] : helpers_) most = std::max(most, helper.num_idle());
  return most;
}

void Helpers::publish(std::uint64_t version, coordinator::Store& store) {
  while (next_version_ <= version) {
    for (wire::Signed& entry : store.versions(next_version_, wire::kMaxCatalog)) {
      const auto manifest = wire::decode_version(entry.bytes);
      core::ensure(manifest.has_value(), "simulation: an unreadable version in the store");
      const core::MappedFile payload(store.blobs().path(manifest->payload));
      const core::ByteView bytes = payload.bytes();
      relay(link_, encode(PublishedVersion{.manifest = std::move(entry),
                                           .payload = {bytes.begin(), bytes.end()}}));
      ++next_version_;
    }
  }
}

void Helpers::train(SlotTraining slot) {
  const auto idlest = std::ranges::max_element(
      helpers_, {}, [](const auto& helper) { return helper.second.num_idle(); });
  core::ensure(idlest != helpers_.end() && idlest->second.num_idle() > 0,
               "simulation: no other process is idle");
  ++idlest->second.num_slots;
  const std::uint64_t number = next_slot_++;
  link_.send(idlest->first, encode(order_of(number, slot)));
  given_.emplace(number, Given{idlest->first, std::move(slot)});
}

bool Helpers::run_finished() {
  bool any = false;
  while (receive(0ms)) any = true;
  return any;
}

bool Helpers::receive(std::chrono::milliseconds wait) {
  auto incoming = link_.receive(wait);
  if (!incoming) return false;
  ProcessMessage message = decode_process_message(incoming->message);
  std::visit([&](auto& one) { take(incoming->from, std::move(one)); }, message);
  return true;
}

void Helpers::take(int from, Ready message) {
  const std::array<std::pair<const char*, std::string Ready::*>, 5> same = {
      {{"Drystone's version", &Ready::software},
       {"the base model's SHA-256", &Ready::base_sha256},
       {"the configuration's hash", &Ready::federation},
       {"the SHA-256 of data.train's examples", &Ready::data_sha256},
       {"the device", &Ready::device}}};
  for (const auto& [what, field] : same) {
    if (message.*field == own_.*field) continue;
    throw core::ConfigError(called(from, message.host) + ": " + what + " is " + message.*field +
                            " there and " + own_.*field + " on " + own_.host +
                            "; all processes need the same");
  }
  if (message.processor != own_.processor) {
    core::log_warning("another kind of processor: last bits may depend on who trains whom",
                      {{"process", static_cast<std::int64_t>(from)}, {"host", message.host}});
  }
  helpers_[from] = {.host = std::move(message.host), .num_workers = message.num_workers};
}

void Helpers::take(int from, SlotAnswer message) {
  auto given = given_.extract(message.slot);
  core::ensure(!given.empty() && given.mapped().helper == from, "simulation: an answer to nothing");
  SlotTraining& slot = given.mapped().slot;
  core::ensure(message.clients.size() == slot.jobs.size(), "simulation: an answer for others");
  --helpers_.at(from).num_slots;
  std::vector<client::JobResult> results;
  results.reserve(slot.jobs.size());
  for (std::size_t i = 0; i < slot.jobs.size(); ++i) {
    results.push_back(result_of(slot.jobs[i], std::move(message.clients[i])));
  }
  slot.on_done(std::move(results));
}

void Helpers::take(int from, const Trouble& message) const {
  if (stop_.stop_requested()) return;
  const std::string text = called(from, message.host) + ": " + message.reason;
  if (!helpers_.contains(from)) throw core::ConfigError(text);  // it could not begin
  throw core::Error(text + "; --resume goes on, with any number of processes");
}

template <typename Unexpected>
void Helpers::take(int /*from*/, const Unexpected& /*message*/) const {
  core::ensure(false, "simulation: a helper gives orders");
}

}  // namespace drystone::simulation
