#include "cli/preflight_shared.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <system_error>
#include <thread>

#include <unistd.h>

#include "client/input_check.h"
#include "core/config_paths.h"
#include "core/error.h"
#include "core/file_errors.h"
#include "core/temporary_files.h"
#include "core/text.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

/// The folder itself, or the nearest above it that is there.
fs::path nearest_existing(const fs::path& folder) {
  std::error_code error;
  fs::path path = folder;
  while (!path.empty() && path.has_parent_path() && path != path.root_path() &&
         !fs::exists(path, error)) {
    path = path.parent_path();
  }
  return path;
}

std::string kilo(std::size_t count) { return std::to_string(count); }

/// Of this machine, in bytes, as the kernel tells; 0: it does not.
std::int64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::string unit;
  std::int64_t kilobytes = 0;
  while (file >> key >> kilobytes) {
    if (key == "MemAvailable:") return kilobytes * 1024;
    std::getline(file, unit);
  }
  return 0;
}

}  // namespace

void check_clock(const core::Config& config, Preflight& preflight) {
  std::error_code error;
  const auto written = fs::last_write_time(config.source, error);
  if (error) return;
  const auto ahead =
      std::chrono::duration_cast<std::chrono::seconds>(written - fs::file_time_type::clock::now());
  if (ahead < std::chrono::minutes(1)) {
    return preflight.add(
        {Verdict::Ok, "clock", "not behind its configuration's; no deadline depends on it", ""});
  }
  preflight.add({Verdict::Warn, "clock",
                 "this machine is " + core::format_duration(static_cast<double>(ahead.count())) +
                     " behind the one that wrote " + config.source.string(),
                 "set it, so that logs of different machines agree; no deadline depends on it"});
}

void check_writable(const fs::path& folder, const std::string& key, Preflight& preflight) {
  preflight.check(key, [&] {
    const fs::path there = nearest_existing(folder);
    std::error_code error;
    if (!fs::is_directory(there, error)) {
      throw core::ConfigError(there.string() + ": is no folder; name another one by " + key);
    }
    const fs::path probe = core::temporary_beside(there / "preflight");
    std::ofstream file(probe);
    file << "x";
    file.close();
    const bool is_written = file.good();
    fs::remove(probe, error);
    if (!is_written) {
      throw core::IoError(there.string() +
                          ": nothing can be written there; give this user the "
                          "right to, or name another folder by " +
                          key);
    }
    return folder.string() + (there == folder ? " can be written" : " can be made");
  });
}

void check_disk(const fs::path& folder, const DiskNeed& need, const std::string& remedy,
                Preflight& preflight) {
  preflight.check("disk", [&]() -> std::string {
    const fs::path there = nearest_existing(folder);
    std::error_code error;
    const fs::space_info space = fs::space(there, error);
    if (error) throw core::file_error(there, "its free space cannot be told", error);
    std::string text = core::format_bytes(space.available) + " free at " + there.string() +
                       ", at most " + core::format_bytes(need.all) + " needed to the end, " +
                       core::format_bytes(need.next_round) + " for the next round";
    if (space.available < need.next_round) throw core::IoError(text + "; " + remedy);
    if (space.available >= need.all) return text;
    preflight.add({Verdict::Warn, "disk", text, remedy});
    return "";
  });
}

std::unique_ptr<training::Workbench> check_model(const core::Config& config,
                                                 const std::string& device, Preflight& preflight) {
  std::unique_ptr<training::Workbench> workbench;
  const bool is_there = preflight.check("model folder", [&] {
    client::check_model(config);
    return config.model.path.string();
  });
  if (!is_there) {
    preflight.skip("model", "model folder");
    return nullptr;
  }
  preflight.check("model", [&] {
    workbench = std::make_unique<training::Workbench>(client::workbench_config(config, device));
    const std::string pinned = config.model.sha256.empty() ? "not pinned" : "as pinned";
    return "loads with its tokenizer, sha256 " + workbench->base_sha256().substr(0, 12) + " (" +
           pinned + ")";
  });
  if (!workbench) return nullptr;
  preflight.check("device", [&] { return workbench->device(); });
  const auto cores = static_cast<std::int64_t>(std::thread::hardware_concurrency());
  if (config.training.threads > cores && cores > 0) {
    preflight.add({Verdict::Warn, "device",
                   "training.threads = " + std::to_string(config.training.threads) + " of " +
                       std::to_string(cores) + " cores",
                   "lower it; it is part of the bits, so all parts of a run must agree"});
  }
  return workbench;
}

void check_records(const core::Config& config, const std::string& key,
                   const client::Records& records, const training::Workbench& workbench,
                   Preflight& preflight) {
  preflight.check(key, [&] {
    client::check_labels(config, records);
    client::warn_of_empty_texts(key.c_str(), records);
    const training::EncodedRecords encoded = workbench.encode(key, records);
    const auto num_cut = static_cast<std::size_t>(
        std::ranges::count_if(encoded.num_lost, [](std::size_t lost) { return lost > 0; }));
    const std::size_t left = encoded.dataset.size();
    if (num_cut * 10 > records.size()) {
      preflight.add({Verdict::Warn, key,
                     kilo(num_cut) + " of " + kilo(records.size()) +
                         " texts are longer than model.max_length = " +
                         std::to_string(config.model.max_length) + " and are cut",
                     "raise it where the model allows, or shorten the texts"});
    }
    if (left < records.size()) {
      preflight.add({Verdict::Warn, key,
                     kilo(records.size() - left) + " of " + kilo(records.size()) +
                         " examples have nothing to learn within model.max_length",
                     "raise it, or take them out"});
    }
    return kilo(records.size()) + " records, " + kilo(left) + " examples, " + kilo(num_cut) +
           " longer than model.max_length";
  });
}

void check_memory(const core::TrainingConfig& given, const training::Workbench& workbench,
                  const std::string& examples, const std::string& what, Preflight& preflight) {
  preflight.check(what, [&]() -> std::string {
    core::TrainingConfig training = given;
    const bool is_limited = given.memory_limit > 0;
    const bool is_cpu = workbench.device() == "cpu";
    if (!is_limited && !is_cpu) {
      return "not estimated on " + workbench.device() + "; set training.memory_limit to have it";
    }
    if (!is_limited) training.memory_limit = available_memory();
    if (training.memory_limit == 0) return "not known here";
    const training::TrainingMemory memory = workbench.training_memory(examples, training);
    std::string text = "at most " +
                       core::format_bytes(static_cast<std::uint64_t>(memory.plan.total_bytes)) +
                       " for rank " + std::to_string(training.rank) + " and batch " +
                       std::to_string(training.batch_size) + ", " +
                       core::format_bytes(static_cast<std::uint64_t>(training.memory_limit)) +
                       (is_limited ? " allowed" : " free");
    const bool is_split = memory.plan.rows < training.batch_size || memory.plan.checkpointing;
    if (is_limited || !is_split) return text;
    preflight.add({Verdict::Warn, what, text + ", but not for a whole mini-batch",
                   "set training.memory_limit, which splits them, or lower batch_size"});
    return "";
  });
}

}  // namespace drystone::cli
