#pragma once
// The resolved configuration of a federation: one struct a TOML section (docs/configuration.md).

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/error.h"

namespace drystone::core {

struct ModelConfig {
  std::filesystem::path path;           ///< Hugging Face folder
  std::filesystem::path adapter;        ///< PEFT folder that version 0 starts from; empty: none
  std::string task = "classification";  ///< classification | regression | causal-lm
  std::string dtype = "float32";
  std::string quantization = "none";  ///< none | nf4: how the base is held in memory
  std::int64_t max_length = 128;      ///< tokens, special ones included
  std::string sha256;                 ///< hex; pins the base; empty: computed from the folder

  bool operator==(const ModelConfig&) const = default;
};

struct DataConfig {
  std::filesystem::path train;  ///< a file; by-file: a folder of files, one a client
  std::filesystem::path test;
  std::string text_field = "text";
  std::string text_pair_field;  ///< second text of sentence pairs; empty: none
  std::string label_field = "label";
  std::vector<std::string> labels;  ///< class names in id order; empty: sorted names found in train
  std::string partition = "iid";    ///< iid | dirichlet | shards | by-key | by-file
  double concentration = 0.5;       ///< Dirichlet
  std::int64_t shards_per_client = 2;
  std::string partition_key;           ///< by-key: field whose value names the client
  std::int64_t max_test_examples = 0;  ///< 0: all; otherwise a keyed random subset of the test file
  // causal-lm:
  std::string prompt_template = "auto";  ///< auto | alpaca | dolly | plain | chat | own {field}
  std::string answer_field;              ///< of an own template
  std::string loss_on = "answer";        ///< answer | all
  bool packing = false;                  ///< several examples a row
  bool streaming = false;                ///< encoded examples in a mapped file, not in memory
  std::filesystem::path cache;           ///< folder of those files; empty: "cache" in output.dir

  bool operator==(const DataConfig&) const = default;
};

/// FederationConfig::quorum: half of the cohort, rounded up.
inline constexpr std::int64_t kHalf = -1;

struct FederationConfig {
  std::int64_t rounds = 3;
  std::int64_t begun_rounds = 0;  ///< rounds of its beginning, which the hash keeps; 0: `rounds`
  std::int64_t cohort = 0;        ///< clients a round is made of; 0: all
  double over_selection = 1.0;    ///< asked, relative to the cohort: the first to answer make it
  std::int64_t quorum = kHalf;    ///< 0: the whole cohort
  std::chrono::milliseconds deadline = std::chrono::minutes(10);
  std::chrono::milliseconds grace = std::chrono::seconds(10);  ///< from quorum to a round's start
  std::int64_t attempts = 3;     ///< plans of one round before the federation fails
  std::filesystem::path layout;  ///< deployed coordinator: what an update may contain (layout.json)
  std::filesystem::path initial;  ///< deployed coordinator: the head that everybody starts from
  std::string mode = "sync";

  bool operator==(const FederationConfig&) const = default;
};

/// Method options, validated by the method itself.
using OptionValue = std::variant<bool, std::int64_t, double, std::string>;
using Options = std::map<std::string, OptionValue>;

struct TrainingConfig {
  std::string method = "lora";
  std::int64_t rank = 8;
  double alpha = 16.0;
  std::vector<std::string> target_modules = {"all-linear"};  ///< suffixes, or {"all-linear"}
  std::int64_t epochs = 1;
  std::int64_t max_steps = 0;  ///< optimiser steps a round; 0: no limit
  std::int64_t batch_size = 16;
  std::int64_t gradient_accumulation = 1;
  std::string precision = "float32";  ///< float32 | bfloat16: of the products and what lies between
  std::int64_t memory_limit = 0;      ///< bytes of one client; 0: none
  bool checkpointing = false;  ///< layers are computed again in the backward pass: less memory
  double max_grad_norm = 0.0;  ///< 0: no clipping
  double learning_rate = 5e-4;
  std::string schedule = "linear";      ///< constant | linear | cosine
  std::string schedule_over = "round";  ///< round | federation: what schedule and warm-up span
  double warmup = 0.06;                 ///< fraction of the steps that the schedule spans
  std::string rank_scaling = "none";    ///< none | rate | rslora: how the rank changes the step
  double weight_decay = 0.0;
  double dropout = 0.0;      ///< on the adapter's input
  std::int64_t threads = 1;  ///< compute threads of one client; part of what fixes the bits
  Options options;

  bool operator==(const TrainingConfig&) const = default;
};

/// A group of virtual clients (simulate) or of folders to provision.
struct ClientGroup {
  std::int64_t count = 1;
  TrainingConfig training;  ///< the section's defaults with this entry's overrides applied
  std::string quantization = "none";  ///< of these clients' base: model.quantization, or their own
  std::string device;  ///< simulate: one of simulation.profiles; empty: drawn by their shares

  bool operator==(const ClientGroup&) const = default;
};

struct AggregationConfig {
  std::string rule = "flora";
  std::string weights = "examples";
  std::string start = "fresh";
  std::string compaction = "lossless";  ///< none | lossless | tolerance | rank
  double tolerance = 0.0;               ///< compaction = {tolerance = …}: relative Frobenius error
  std::int64_t rank = 0;                ///< compaction = {rank = …}
  double max_norm = 100.0;              ///< of one client's update, relative; 0: no bound
  std::string robust = "none";

  bool operator==(const AggregationConfig&) const = default;
};

/// What a deployed client grants the coordinator.
struct ClientConfig {
  std::string reveal = "full";                ///< full | minimal: what progress and reports tell
  std::chrono::milliseconds give_up_after{};  ///< without the coordinator; 0: never
  std::int64_t max_storage = 0;  ///< bytes of versions and partials; 0: from the layout

  bool operator==(const ClientConfig&) const = default;
};

struct SecurityConfig {
  std::string coordinator;                ///< tcp://host:port
  std::filesystem::path identity;         ///< path without suffix of NAME.key / NAME.pub
  std::filesystem::path coordinator_key;  ///< client: the coordinator's NAME.pub
  std::filesystem::path allow;            ///< coordinator: roster.toml

  bool operator==(const SecurityConfig&) const = default;
};

struct SimulationConfig {
  std::int64_t workers = 0;  ///< training threads in parallel; 0: one a core
  std::int64_t group = 1;    ///< clients that share passes through the base, at most; 0: "auto"
  std::filesystem::path profiles;  ///< file of core::Device: time is simulated; empty: it is not

  bool operator==(const SimulationConfig&) const = default;
};

struct OutputConfig {
  std::filesystem::path dir = "runs/latest";
  bool keep_updates = true;  ///< keep clients' payloads after a round: lets anyone recompute it

  bool operator==(const OutputConfig&) const = default;
};

struct Config {
  std::filesystem::path source;  ///< the TOML file, for messages
  /// Key → "FILE:LINE" or "--set", for every key that was given; see config_error.
  std::map<std::string, std::string> origins;
  std::string name = "federation";
  std::uint64_t seed = 0;
  ModelConfig model;
  DataConfig data;
  FederationConfig federation;
  TrainingConfig training;
  std::vector<ClientGroup> clients;
  AggregationConfig aggregation;
  ClientConfig client;
  SecurityConfig security;
  SimulationConfig simulation;
  OutputConfig output;

  /// Equal settings; where they were written does not matter.
  bool operator==(const Config& other) const;
};

/// Reads and checks a configuration. `overrides` are `key=value` as given to --set, e.g.
/// "training.rank=8" or, for the second [[clients]] entry, "clients.1.rank=8".
/// Relative paths are resolved against the file's folder, those in overrides against the current
/// one; afterwards all paths are absolute. Whether they exist is for the programs to check.
/// @throws ConfigError  `FILE:LINE: key: what is wrong; what to do`; an unknown key names the
///                      nearest
Config load_config(const std::filesystem::path& file,
                   const std::vector<std::string>& overrides = {});

/// An error about `key` for checks that come after loading (files, methods, devices …): says where
/// the key, or else the table around it, was written. `problem` is "what is wrong; what to do".
ConfigError config_error(const Config& config, const std::string& key, const std::string& problem);

/// Number of clients that the [[clients]] entries describe; 0 without entries.
std::int64_t num_clients(const Config& config);

/// The resolved configuration as TOML that load_config reads back to an equal Config.
std::string to_toml(const Config& config);

/// Canonical text of what determines the result: everything but paths, field names of data files,
/// addresses, the deadline, workers and output. Equal for a simulated and a deployed run of the
/// same federation; its SHA-256 is the config hash in reports and in every round's transcript.
std::string semantic_text(const Config& config);

}  // namespace drystone::core
