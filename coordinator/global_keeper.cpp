#include "coordinator/global_keeper.h"

#include <string_view>
#include <utility>

#include "core/check.h"
#include "core/client_list.h"
#include "core/error.h"
#include "core/file_errors.h"
#include "core/log.h"
#include "tensors/pruning.h"
#include "tensors/threads.h"

namespace drystone::coordinator {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

GlobalKeeper::GlobalKeeper(GlobalKeeperSetup setup, Coordinator& coordinator,
                           std::vector<Observer*> observers)
    : setup_(std::move(setup)),
      coordinator_(coordinator),
      observers_(std::move(observers)),
      sum_(setup_.state_dir, max_member_rank(setup_.settings.config)),
      // One thread, as everything that makes bits: their number is part of them.
      worker_(1, {.on_thread_start = [] { tensors::use_threads(1); }, .on_finished = {}}) {}

GlobalKeeper::~GlobalKeeper() { gives_up_ = true; }

bool GlobalKeeper::is_current() const { return done_ == coordinator_.sound_version(); }

void GlobalKeeper::follow() {
  worker_.run_finished(0ms);
  tell_progress();
  if (worker_.num_pending() > 0 || is_current()) return;
  if (failed_ != coordinator_.sound_version()) start(coordinator_.sound_version());
}

void GlobalKeeper::finish(const std::function<void()>& meanwhile) {
  failed_.reset();
  while (!is_current()) {
    follow();
    if (meanwhile) meanwhile();
    worker_.run_finished(meanwhile ? 0ms : 200ms);
    if (failed_ == coordinator_.sound_version()) std::rethrow_exception(failure_);
  }
  tell_progress();
  if (fs::exists(setup_.run_dir / "global" / tensors::kMaskFile)) {
    core::log_info(
        "the model is pruned: drystone merge and evaluate apply global/pruning.json, PEFT does "
        "not");
  }
}

void GlobalKeeper::tell_progress() {
  const std::int64_t done = progress_.done;
  if (done == told_) return;
  told_ = done;
  for (Observer* observer : observers_) {
    observer->on_summed(static_cast<std::uint64_t>(progress_.version.load()), done,
                        progress_.total);
  }
}

namespace {

void tell_failure(const core::Error& error) {
  core::log_warning("global/ could not be brought up to date",
                    {{"reason", std::string_view(error.what())}});
}

}  // namespace

void GlobalKeeper::start(std::uint64_t target) {
  worker_.post([this, target, all = versions(target),
                source = posterior(target)]() -> core::WorkerPool::Continuation {
    std::exception_ptr failure;
    try {
      bring(all, source);
    } catch (const core::Error& error) {
      failure = std::current_exception();
      tell_failure(error);
    } catch (const fs::filesystem_error& error) {
      const core::IoError told = core::file_error(error);
      failure = std::make_exception_ptr(told);
      tell_failure(told);
    }
    return [this, target, failure] {
      (failure ? failed_ : done_) = target;
      failure_ = failure;
    };
  });
}

void GlobalKeeper::bring(const std::vector<SummedVersion>& versions,
                         const std::optional<PosteriorSource>& posterior) {
  const auto sum = sum_.sum_of(versions, [&](std::int64_t done, std::int64_t total) {
    progress_.version = static_cast<std::int64_t>(versions.size()) - 1;
    progress_.total = total;
    progress_.done = done;
    return !gives_up_;
  });
  if (!sum) return;  // the keeper goes
  const fs::path next = setup_.run_dir / "global.next";
  fs::remove_all(next);
  write_global(next, setup_.settings, *sum, posterior ? &*posterior : nullptr);
  replace_folder(next, setup_.run_dir / "global");
}

std::vector<SummedVersion> GlobalKeeper::versions(std::uint64_t target) {
  Store& store = coordinator_.store();
  std::vector<SummedVersion> versions;
  for (const wire::Signed& stored : store.versions(0, target + 1)) {
    const auto manifest = wire::decode_version(stored.bytes);
    core::ensure(manifest.has_value(), "global: unreadable manifest of a version");
    versions.push_back({.head = core::to_hex(manifest->head),
                        .payload = store.blobs().path(manifest->payload),
                        .mode = manifest->mode});
  }
  return versions;
}

std::optional<PosteriorSource> GlobalKeeper::posterior(std::uint64_t target) {
  if (target == 0 || !core::collects_posterior(setup_.settings.config)) return std::nullopt;
  const std::vector<SummedVersion> all = versions(target);
  PosteriorSource source{.first = all.front().payload, .newest = all.back().payload};
  const auto newest = wire::decode_version(coordinator_.store().versions(target, 1).front().bytes);
  for (const StoredUpdate& stored : coordinator_.store().updates(newest->round)) {
    source.examples += stored.update.num_examples;
  }
  return source;
}

}  // namespace drystone::coordinator
