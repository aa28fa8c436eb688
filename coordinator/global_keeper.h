#pragma once
// Keeps global/ at the last published version while the federation goes on.

#include <atomic>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "coordinator/coordinator.h"
#include "coordinator/global_folder.h"
#include "coordinator/sum_cache.h"
#include "core/worker_pool.h"

namespace drystone::coordinator {

struct GlobalKeeperSetup {
  std::filesystem::path run_dir;    ///< holds global/
  std::filesystem::path state_dir;  ///< holds the sum
  GlobalSettings settings;
};

/// Adds each version to the sum on a thread of its own, module by module, and puts a new global/ in
/// the place of the old one. A kill at any point leaves the last global/ that was complete, and the
/// next life comes to the same bits. Use from the coordinator's thread.
class GlobalKeeper {
 public:
  /// @param coordinator, observers  outlive the keeper
  GlobalKeeper(GlobalKeeperSetup setup, Coordinator& coordinator,
               std::vector<Observer*> observers = {});
  /// Gives up what is under way, at its next module.
  ~GlobalKeeper();
  GlobalKeeper(const GlobalKeeper&) = delete;
  GlobalKeeper& operator=(const GlobalKeeper&) = delete;

  /// Starts on a version that global/ lacks, and tells progress; returns at once. What cannot be
  /// written is a warning, and is tried again with the next version.
  void follow();
  /// Returns once global/ is of the last version, telling progress. @throws core::IoError
  /// @param meanwhile  called again and again until then, where there is something else to do
  void finish(const std::function<void()>& meanwhile = {});

 private:
  /// What the worker says of the version in hand.
  struct Progress {
    std::atomic<std::int64_t> version = 0;
    std::atomic<std::int64_t> done = 0;
    std::atomic<std::int64_t> total = 0;
  };

  void tell_progress();
  void start(std::uint64_t target);
  bool is_current() const;
  std::vector<SummedVersion> versions(std::uint64_t target);
  std::optional<PosteriorSource> posterior(std::uint64_t target);
  void bring(const std::vector<SummedVersion>& versions,
             const std::optional<PosteriorSource>& posterior);

  GlobalKeeperSetup setup_;
  Coordinator& coordinator_;
  std::vector<Observer*> observers_;
  SumCache sum_;  ///< the worker's
  Progress progress_;
  std::int64_t told_ = -1;
  std::atomic<bool> gives_up_ = false;
  std::optional<std::uint64_t> done_;    ///< version that global/ is of
  std::optional<std::uint64_t> failed_;  ///< version that could not be written
  std::exception_ptr failure_;
  core::WorkerPool worker_;  ///< last: its thread uses everything above
};

}  // namespace drystone::coordinator
