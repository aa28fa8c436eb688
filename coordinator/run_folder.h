#pragma once
// The run folder that a federation leaves behind (contract: run folder).

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "coordinator/coordinator.h"
#include "core/metrics.h"

namespace drystone::coordinator {

/// Appends every event to DIR/metrics.jsonl as it happens.
class MetricsRecorder final : public Observer {
 public:
  /// @throws core::IoError  the file cannot be opened
  explicit MetricsRecorder(const std::filesystem::path& dir);

  void on_dealt(const std::string& client, const std::string& keys, std::int64_t num_keys,
                std::int64_t num_examples) override;
  void on_joined(const std::string& client, const wire::Hello& hello) override;
  void on_planned(const wire::RoundPlan& plan) override;
  void on_progress(const std::string& client, const wire::Progress& progress) override;
  void on_accepted(const wire::UpdateManifest& manifest, double seconds) override;
  void on_refused(const std::string& client, const core::Failure& failure) override;
  void on_abandoned(std::uint64_t round, const std::string& reason) override;
  void on_published(const RoundReport& round) override;
  void on_evaluated(std::uint64_t version, const Metrics& metrics) override;

 private:
  core::MetricsWriter file_;
  std::map<std::string, std::uint64_t> peak_bytes_;  ///< by client, as it last said
};

/// What a run was made of, beside the coordinator's own state.
struct RunFolder {
  std::filesystem::path dir;
  core::Config config;  ///< resolved
  aggregation::AdapterLayout layout;
};

/// Sweeps what interrupted writes left and writes config.toml, for a run that is killed before it
/// writes the rest: to be called once the state is this federation's. A configuration that an
/// earlier life of it wrote stays.
/// @throws core::IoError
void begin_run_folder(const std::filesystem::path& dir, const core::Config& config);

/// Writes config.toml, layout.json, report.json, report.html, their SHA256SUMS and versions/NNNN
/// (payload, record, the clients' payloads where they were kept); global/ is
/// coordinator/global_keeper.h's. May be called again at any time.
/// @throws core::IoError
void write_run_folder(const RunFolder& folder, Coordinator& coordinator);

}  // namespace drystone::coordinator
