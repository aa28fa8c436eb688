#include "coordinator/run_folder.h"

#include <cstdio>

#include "coordinator/earlier_life.h"
#include "coordinator/federation_id.h"
#include "coordinator/report_html.h"
#include "coordinator/run_index.h"
#include "coordinator/version_record.h"
#include "core/check.h"
#include "core/files.h"
#include "core/log.h"
#include "core/temporary_files.h"
#include "wire/durable_file.h"

namespace drystone::coordinator {

namespace fs = std::filesystem;

MetricsRecorder::MetricsRecorder(const fs::path& dir) : file_(dir / "metrics.jsonl") {}

namespace {

std::int64_t number(std::uint64_t value) { return static_cast<std::int64_t>(value); }

double rate(std::uint64_t count, double seconds) {
  return seconds > 0.0 ? static_cast<double>(count) / seconds : 0.0;
}

}  // namespace

void MetricsRecorder::on_dealt(const std::string& client, const std::string& keys,
                               std::int64_t num_keys, std::int64_t num_examples) {
  file_.write(
      "dealt",
      {{"client", client}, {"keys", keys}, {"num_keys", num_keys}, {"examples", num_examples}});
}

void MetricsRecorder::on_joined(const std::string& client, const wire::Hello& hello) {
  file_.write("joined",
              {{"client", client}, {"device", hello.device}, {"software", hello.software}});
}

void MetricsRecorder::on_planned(const wire::RoundPlan& plan) {
  file_.write("planned", {{"round", number(plan.round)},
                          {"attempt", number(plan.attempt)},
                          {"version", number(plan.base_version)},
                          {"asked", number(plan.cohort.size())}});
}

void MetricsRecorder::on_progress(const std::string& client, const wire::Progress& progress) {
  peak_bytes_[client] = progress.peak_bytes;
}

void MetricsRecorder::on_accepted(const wire::UpdateManifest& manifest, double seconds) {
  file_.write("update", {{"round", number(manifest.round)},
                         {"client", manifest.client},
                         {"method", manifest.method},
                         {"loss", manifest.train_loss},
                         {"examples", number(manifest.num_examples)},
                         {"steps", number(manifest.num_steps)},
                         {"tokens", number(manifest.num_tokens)},
                         {"passes", number(manifest.num_passes)},
                         {"bytes", number(manifest.payload_bytes)},
                         {"seconds", seconds},
                         {"tokens_per_second", rate(manifest.num_tokens, seconds)},
                         {"peak_bytes", number(peak_bytes_[manifest.client])}});
}

void MetricsRecorder::on_refused(const std::string& client, const core::Failure& failure) {
  file_.write(
      "refused",
      {{"client", client}, {"reason", core::name(failure.code)}, {"detail", failure.detail}});
}

void MetricsRecorder::on_abandoned(std::uint64_t round, const std::string& reason) {
  file_.write("abandoned", {{"round", number(round)}, {"reason", reason}});
}

void MetricsRecorder::on_published(const RoundReport& round) {
  std::vector<core::MetricField> fields = {{"round", number(round.round)},
                                           {"version", number(round.version)},
                                           {"accepted", number(round.accepted)},
                                           {"loss", round.train_loss},
                                           {"bytes_up", number(round.bytes_up)},
                                           {"bytes_down", number(round.bytes_down)},
                                           {"stack_rank", round.stack_rank},
                                           {"compact_rank", round.compact_rank},
                                           {"tokens", number(round.tokens)},
                                           {"passes", number(round.passes)},
                                           {"seconds", round.seconds},
                                           {"since_restart", round.since_restart},
                                           {"tokens_per_second", rate(round.tokens, round.seconds)},
                                           {"peak_bytes", number(core::peak_rss_bytes())}};
  if (round.simulated) {
    fields.insert(fields.end(), {{"simulated_seconds", round.simulated->seconds},
                                 {"simulated_clock", round.simulated->clock},
                                 {"simulated_busy_seconds", round.simulated->busy_seconds},
                                 {"simulated_joules", round.simulated->joules},
                                 {"late", number(round.simulated->late)},
                                 {"dropped", number(round.simulated->dropped)},
                                 {"surplus", number(round.simulated->surplus)}});
  }
  file_.write("published", fields);
}

void MetricsRecorder::on_evaluated(std::uint64_t version, const Metrics& metrics) {
  std::vector<core::MetricField> fields = {{"version", number(version)}};
  for (const auto& [name, value] : metrics) fields.push_back({name, value});
  file_.write("evaluated", fields);
}

namespace {

fs::path version_dir(const fs::path& dir, std::uint64_t version) {
  char name[24];
  std::snprintf(name, sizeof name, "%04llu", static_cast<unsigned long long>(version));
  return dir / "versions" / name;
}

// A second name for the blob where the file system allows it, else a copy; under its own name only
// when it is whole. What lies there from an earlier life is looked into. The caller syncs the
// folder.
void place(const fs::path& blob, const core::Digest& content, const fs::path& target) {
  if (fs::exists(target) && (fs::equivalent(blob, target) || wire::hash_file(target) == content)) {
    return;
  }
  const fs::path temporary = core::temporary_beside(target);
  std::error_code error;
  fs::create_hard_link(blob, temporary, error);
  if (error) {
    fs::copy_file(blob, temporary);
    wire::File::open_for_writing(temporary).sync();
  }
  wire::move_file(temporary, target);
}

void write_version(const RunFolder& folder, Store& store, std::uint64_t version) {
  const fs::path dir = version_dir(folder.dir, version);
  fs::create_directories(dir / "updates");
  core::sweep_temporaries(dir);
  core::sweep_temporaries(dir / "updates");
  const VersionRecord record = make_record(store, version);
  core::write_file_atomic(dir / "version.json", core::as_bytes(to_json(record)));
  const auto manifest = wire::decode_version(record.manifest.bytes);
  core::ensure(manifest.has_value(), "run folder: unreadable manifest");
  if (!store.blobs().contains(manifest->payload)) {
    throw core::IoError(store.blobs().path(manifest->payload).string() +
                        ": the payload of version " + std::to_string(version) +
                        " is missing or damaged; restore the file from a copy");
  }
  place(store.blobs().path(manifest->payload), manifest->payload, dir / "factors.safetensors");
  for (const RecordedUpdate& update : record.updates) {
    const auto claim = wire::decode_update(update.manifest.bytes);
    core::ensure(claim.has_value(), "run folder: unreadable update");
    if (!store.blobs().contains(claim->payload)) continue;  // output.keep_updates = false
    place(store.blobs().path(claim->payload), claim->payload,
          dir / "updates" / (update.client + ".safetensors"));
  }
  core::sync_folder(dir / "updates");
  core::sync_folder(dir);
}

std::string told_group(const core::Config& config) {
  const std::int64_t group = config.simulation.group;
  return group == 0 ? "auto" : std::to_string(group);
}

}  // namespace

void begin_run_folder(const fs::path& dir, const core::Config& config) {
  core::sweep_temporaries(dir);
  if (const auto former = configuration_of(dir, federation_id(config))) {
    if (former->simulation.group != config.simulation.group) {
      core::log_warning("another simulation.group: from here on rounds are rounded differently",
                        {{"was", told_group(*former)}, {"now", told_group(config)}});
    }
    if (former->federation.rounds == config.federation.rounds) return;
  }
  fs::create_directories(dir);
  remove_run_index(dir);
  core::write_file_atomic(dir / kConfigFile, core::as_bytes(core::to_toml(config)));
}

void write_run_folder(const RunFolder& folder, Coordinator& coordinator) {
  fs::create_directories(folder.dir);
  const auto write_text = [&](const char* name, const std::string& text) {
    core::write_file_atomic(folder.dir / name, core::as_bytes(text));
  };
  remove_run_index(folder.dir);
  write_text(kConfigFile, core::to_toml(folder.config));
  write_text("layout.json", aggregation::to_json(folder.layout));
  const RunReport report = coordinator.report();
  write_text("report.json", to_json(report));
  write_text("report.html", to_html(report));
  const std::uint64_t newest = coordinator.store().load().version;
  for (std::uint64_t version = 0; version <= newest; ++version) {
    write_version(folder, coordinator.store(), version);
  }
  write_run_index(folder.dir);
}

}  // namespace drystone::coordinator
