#include "simulation/helper.h"

#include <chrono>
#include <deque>
#include <memory>
#include <utility>

#include "core/check.h"
#include "core/files.h"
#include "core/worker_pool.h"
#include "crypto/hash.h"
#include "simulation/coordinator_identity.h"
#include "simulation/helpers.h"
#include "simulation/members.h"
#include "simulation/relay.h"
#include "simulation/slot_training.h"

namespace drystone::simulation {

using namespace std::chrono_literals;

namespace {

/// For a request to stop; all else wakes.
constexpr auto kLongestPause = 100ms;
/// After it: launchers ask all processes to stop, and process 0 tells what is kept.
constexpr auto kPatience = 5s;

class Helper {
 public:
  Helper(core::Config config, Link& link, const HelperOptions& options);
  ~Helper() { stopped_.request_stop(); }  // so that the workers end soon
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;
  void run();

 private:
  void take(Link::Incoming incoming);
  void follow(const PublishedVersion& published);
  void begin_orders();
  void begin(SlotOrder order);
  void answer(const SlotOrder& order, std::vector<client::JobResult> results);
  client::ClientMemory memory_of(const VirtualClient& member, const SlotOrder& order) const {
    return {member.settings.memory, order.plan.federation};
  }
  std::filesystem::path payload_path(const core::Digest& payload) const {
    return options_.scratch / core::to_hex(payload);
  }

  core::Config config_;
  Link& link_;
  const HelperOptions& options_;
  wire::InprocHub hub_;  ///< with no server: its clients say nothing
  Members members_;
  const std::size_t num_workers_;
  std::deque<SlotOrder> orders_;  ///< not begun
  std::stop_source stopped_;
  core::WorkerPool workers_;  ///< last: its threads use everything above
};

Helper::Helper(core::Config config, Link& link, const HelperOptions& options)
    : config_(std::move(config)),
      link_(link),
      options_(options),
      members_({.config = config_,
                .state_dir = options.scratch,
                .device = options.device,
                .find_payload = [this](const core::Digest& blob) { return payload_path(blob); },
                .coordinator_signing = coordinator_identity(config_.seed).public_part.signing,
                .num_cores = link.num_cores(),
                .evaluates = false},
               hub_),
      num_workers_(members_.num_workers()),
      workers_(num_workers_, {.on_thread_start = {}, .on_finished = [this] { link_.wake(); }}) {}

void Helper::run() {
  link_.send(0, encode(introduce(members_, config_, num_workers_)));
  auto heard = std::chrono::steady_clock::now();
  while (!link_.is_over()) {
    const auto now = std::chrono::steady_clock::now();
    if (!options_.stop.stop_requested()) heard = now;
    if (now - heard > kPatience) throw core::Error("was told to stop");
    if (auto incoming = link_.receive(kLongestPause)) take(*std::move(incoming));
    workers_.run_finished(0ms);
    begin_orders();
  }
}

void Helper::take(Link::Incoming incoming) {
  ProcessMessage message = decode_process_message(incoming.message);
  if (auto* order = std::get_if<SlotOrder>(&message)) {
    orders_.push_back(std::move(*order));
    return;
  }
  const auto* published = std::get_if<PublishedVersion>(&message);
  core::ensure(published != nullptr, "simulation: another process's answer went astray");
  relay(link_, std::make_shared<const core::Bytes>(std::move(incoming.message)));
  follow(*published);
}

void Helper::follow(const PublishedVersion& published) {
  const std::filesystem::path file = payload_path(crypto::sha256(published.payload));
  core::write_file_atomic(file, published.payload, 0600);
  members_.follow(published.manifest);
  std::filesystem::remove(file);
}

/// A version may come later than an order that needs it, by another way. What trains from an older
/// one than the newest, nobody waits for any more.
void Helper::begin_orders() {
  while (!orders_.empty() && orders_.front().plan.base_version < members_.num_followed()) {
    SlotOrder order = std::move(orders_.front());
    orders_.pop_front();
    if (order.plan.base_version + 1 == members_.num_followed()) {
      begin(std::move(order));
    } else {
      std::vector<ClientAnswer> stopped(order.clients.size());
      link_.send(0, encode(SlotAnswer{order.slot, std::move(stopped)}));
    }
  }
}

void Helper::begin(SlotOrder order) {
  const auto plan = std::make_shared<const client::CheckedPlan>(client::CheckedPlan{order.plan});
  core::ensure(!order.clients.empty(), "simulation: an order for nobody");
  std::vector<const VirtualClient*> members;
  std::vector<client::GroupJob> jobs;
  jobs.reserve(order.clients.size());
  for (const ClientOrder& one : order.clients) {
    const VirtualClient& member = *members.emplace_back(&members_.ask(one.client));
    if (one.memory) memory_of(member, order).put(*one.memory);
    jobs.push_back({.settings = member.settings,
                    .job = {.plan = plan,
                            .rounds = order.rounds,
                            .state = member.bench.versions.newest(),
                            .stop = stopped_.get_token()},
                    .on_progress = {}});
  }
  auto slot = std::make_shared<SlotTraining>(
      SlotTraining{members.front()->bench.workbench, std::move(jobs), order.together});
  workers_.post([this, slot, order = std::move(order)]() -> core::WorkerPool::Continuation {
    auto results = std::make_shared<std::vector<client::JobResult>>(train(*slot));
    return [this, order, results] { answer(order, std::move(*results)); };
  });
}

void Helper::answer(const SlotOrder& order, std::vector<client::JobResult> results) {
  SlotAnswer answer{.slot = order.slot, .clients = {}};
  for (std::size_t i = 0; i < results.size(); ++i) {
    const std::string& name = order.clients[i].client;
    const VirtualClient& member = *members_.find(name);
    ClientAnswer& one = answer.clients.emplace_back();
    if (results[i].trained) one.memory = memory_of(member, order).carry(order.plan.round);
    one.update = std::move(results[i].trained);
    one.failure = std::move(results[i].failure);
    std::filesystem::remove_all(member.settings.memory);
    members_.dismiss(name);
  }
  link_.send(0, encode(answer));
}

}  // namespace

void help(core::Config config, Link& link, const HelperOptions& options) {
  Helper(std::move(config), link, options).run();
}

void tell_trouble(Link& link, const std::string& reason) {
  link.send(0, encode(Trouble{.host = host_name(), .reason = reason}));
  try {
    while (!link.is_over()) link.receive(kLongestPause);
  } catch (const core::Error&) {
    return;  // the link is over
  }
}

}  // namespace drystone::simulation
