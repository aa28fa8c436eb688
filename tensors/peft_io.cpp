#include "tensors/peft_io.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json_object.h"
#include "core/text.h"
#include "tensors/name_patterns.h"
#include "tensors/peft_names.h"
#include "tensors/safetensors.h"
#include "tensors/safetensors_writer.h"

namespace drystone::tensors {

namespace {

using Json = nlohmann::ordered_json;  // patterns apply in the file's order

/// A pattern that PEFT's get_pattern_key, which searches from any dot on, matches to this name
/// only.
std::string anchored(std::string_view module) {
  std::string pattern = "^";
  for (const char c : module) {
    if (c == '.') pattern += '\\';
    pattern += c;
  }
  return pattern;
}

/// The module to name in modules_to_save. PEFT adds "classifier" and "score" for every sequence
/// classifier, so a head of several layers must be named as a whole.
std::string saved_module(const std::string& tensor) {
  const std::string first = tensor.substr(0, tensor.find('.'));
  if (first == "classifier" || first == "score") return first;
  return tensor.substr(0, tensor.rfind('.'));
}

Json config_of(const PeftParts& adapter, const PeftFolder& about) {
  std::map<std::int64_t, std::size_t> counts;
  for (const auto& [name, own] : adapter.ranks) ++counts[own];
  const std::int64_t rank =
      std::max_element(counts.begin(), counts.end(), [](const auto& x, const auto& y) {
        return x.second < y.second;
      })->first;
  Json targets = Json::array();
  Json ranks = Json::object();
  for (const auto& [name, own] : adapter.ranks) {
    targets.push_back(name);
    if (own != rank) ranks[anchored(name)] = own;
  }
  std::set<std::string> saved;
  for (const std::string& name : adapter.dense) saved.insert(saved_module(name));
  return {{"peft_type", "LORA"},
          {"task_type", about.task_type.empty() ? Json(nullptr) : Json(about.task_type)},
          {"base_model_name_or_path", about.base_model},
          {"inference_mode", true},
          {"r", rank},
          {"lora_alpha", rank},
          {"rank_pattern", ranks},
          {"alpha_pattern", ranks},
          {"lora_dropout", 0.0},
          {"use_rslora", false},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"init_lora_weights", true},
          {"target_modules", targets},
          {"modules_to_save", saved.empty() ? Json(nullptr) : Json(saved)}};
}

}  // namespace

void write_peft(const std::filesystem::path& folder, const PeftParts& adapter,
                const PeftFolder& about) {
  core::require(!adapter.ranks.empty(), "write_peft: no modules; PEFT cannot load such a folder");
  std::filesystem::create_directories(folder);
  const Metadata metadata = {{"format", "pt"}};
  struct Part {
    std::string name;
    std::optional<PeftName::Part> side;  ///< of a module's factors; otherwise a dense part
  };
  std::map<std::string, Part> parts;  // by key: the file's order
  for (const auto& [name, rank] : adapter.ranks) {
    for (const auto side : {PeftName::Part::A, PeftName::Part::B}) {
      parts[peft_key(name, side)] = {name, side};
    }
  }
  for (const std::string& name : adapter.dense) parts[peft_key(name)] = {name, std::nullopt};
  SafetensorsWriter writer(folder / "adapter_model.safetensors", metadata);
  Factors pair;  // of the module whose A was written last: its B follows
  for (const auto& [key, part] : parts) {
    if (part.side == PeftName::Part::A) pair = adapter.module(part.name);
    if (!part.side) {
      writer.add(key, adapter.dense_part(part.name));
    } else {
      writer.add(key, part.side == PeftName::Part::A ? pair.a : pair.b);
    }
  }
  writer.finish();
  if (!adapter.dense.empty()) {
    SafetensorsWriter head(folder / "head.safetensors", metadata);
    for (const std::string& name : adapter.dense) head.add(name, adapter.dense_part(name));
    head.finish();
  }
  const std::string config = config_of(adapter, about).dump(2) + "\n";
  core::write_file_atomic(folder / "adapter_config.json", core::as_bytes(config));
}

void write_peft(const std::filesystem::path& folder, const FactorSet& adapter,
                const PeftFolder& about) {
  PeftParts parts{.ranks = {},
                  .dense = {},
                  .module = [&](const std::string& name) { return adapter.modules.at(name); },
                  .dense_part = [&](const std::string& name) { return adapter.dense.at(name); }};
  for (const auto& [name, factors] : adapter.modules) parts.ranks[name] = factors.rank();
  for (const auto& [name, tensor] : adapter.dense) parts.dense.insert(name);
  write_peft(folder, parts, about);
}

namespace {

/// The file again. @throws core::ConfigError  it is not there
const std::filesystem::path& present(const std::filesystem::path& file) {
  if (std::filesystem::exists(file)) return file;
  const std::filesystem::path folder = file.parent_path();
  const std::filesystem::path global = folder / "global";
  throw core::ConfigError(std::filesystem::exists(global / file.filename())
                              ? folder.string() + ": is a run, whose adapter is " +
                                    global.string() + "; name that folder"
                              : file.string() +
                                    ": is missing; name the folder of a PEFT adapter, "
                                    "e.g. RUN/global");
}

/// adapter_config.json, checked to be a LoRA whose meaning is ΔW = B·A.
class PeftConfig {
 public:
  explicit PeftConfig(const std::filesystem::path& file)
      : file_(present(file)),
        root_(core::JsonObject::read(file)),
        ranks_(patterns("rank_pattern")),
        alphas_(patterns("alpha_pattern")) {
    const std::string type = root_.text_or("peft_type", "");
    if (type != "LORA") fail("peft_type " + core::quote(type) + " is not supported; only LORA is");
    refuse_unsupported();
  }

  /// alpha / r or alpha / √r, after the patterns.
  double scale(const std::string& module, std::int64_t rank_of_tensor) const {
    const double rank = look_up(ranks_, module, "r");
    const double alpha = look_up(alphas_, module, "lora_alpha");
    if (rank != static_cast<double>(rank_of_tensor)) {
      fail(module + " has rank " + std::to_string(rank_of_tensor) + ", not " +
           core::shown(in_short(rank)) + " as configured");
    }
    return alpha / (root_.flag_or("use_rslora", false) ? std::sqrt(rank) : rank);
  }

  PeftFolder about() const {
    return {.base_model = text("base_model_name_or_path"), .task_type = text("task_type")};
  }

  /// With ensure_weight_tying PEFT adapts embeddings and head together.
  void refuse_shared_tie(const std::string& module) const {
    if (!root_.flag_or("ensure_weight_tying", false)) return;
    if (module != "lm_head" && !is_embedding(module)) return;
    fail("ensure_weight_tying is not supported for " + module +
         "; merge the adapter with PEFT's merge_and_unload");
  }

  [[noreturn]] void fail(const std::string& problem) const {
    throw core::ConfigError(file_.string() + ": " + problem);
  }

 private:
  /// 8 rather than 8.0.
  static Json in_short(double number) {
    constexpr double kExact = 1e15;
    const bool is_integer = std::abs(number) < kExact && std::trunc(number) == number;
    return is_integer ? Json(static_cast<std::int64_t>(number)) : Json(number);
  }

  /// "" where it is absent, null or no string.
  std::string text(const char* key) const {
    const auto found = root_.json().find(key);
    return found != root_.json().end() && found->is_string() ? found->get<std::string>() : "";
  }

  static bool is_off(const Json& value) {
    return value.is_null() || value == false || value == "none" ||
           (value.is_structured() && value.empty());
  }

  void refuse_unsupported() const {
    static constexpr std::string_view kMustBeOff[] = {"use_dora",
                                                      "lora_bias",
                                                      "bias",
                                                      "use_qalora",
                                                      "use_bdlora",
                                                      "layer_replication",
                                                      "kasa_config",
                                                      "trainable_token_indices",
                                                      "arrow_config",
                                                      "target_parameters",
                                                      "monteclora_config",
                                                      "alora_invocation_tokens"};
    const Json& json = root_.json();
    for (const std::string_view key : kMustBeOff) {
      if (const auto found = json.find(key); found != json.end() && !is_off(*found)) {
        fail(std::string(key) + " = " + core::shown(*found) +
             " is not supported: the adapter would not be B·A on the plain base");
      }
    }
    const auto start = json.find("init_lora_weights");
    static const std::set<Json> kKeepsBase = {true, false, "gaussian", "eva", "orthogonal"};
    if (start != json.end() && !kKeepsBase.contains(*start)) {
      fail("init_lora_weights = " + core::shown(*start) +
           " changes the base weights; convert the adapter with PEFT's save_pretrained("
           "path_initial_model_for_weight_conversion=…) first");
    }
  }

  NamePatterns patterns(const char* key) const {
    std::vector<std::pair<std::string, double>> table;
    const auto section = root_.section(key);
    if (section) {
      for (const auto& [pattern, value] : section->json().items()) {
        if (!value.is_number()) section->fail(core::quote(pattern), "must be a number");
        table.emplace_back(pattern, value.get<double>());
      }
    }
    try {
      return NamePatterns(std::move(table));
    } catch (const core::ConfigError& error) {
      root_.fail(key, error.what());
    }
  }

  double look_up(const NamePatterns& patterns, const std::string& module, const char* key) const {
    constexpr double kDefault = 8.0;  // PEFT's, of r and of lora_alpha
    try {
      if (const auto found = patterns.find(module)) return *found;
    } catch (const core::ConfigError& error) {
      fail(error.what());
    }
    return root_.positive_or(key, kDefault);
  }

  std::filesystem::path file_;
  core::JsonObject root_;
  NamePatterns ranks_;
  NamePatterns alphas_;
};

/// A file's tensors by module.
struct AdapterKeys {
  std::map<std::string, std::string> a, b;  ///< module → key
  std::map<std::string, std::string> whole;
};

AdapterKeys sort_keys(const SafetensorsFile& file, const PeftConfig& config) {
  AdapterKeys keys;
  for (const auto& [key, info] : file.header().tensors) {
    std::string why_not;
    const auto parsed = parse_peft_name(key, why_not);
    if (!parsed) config.fail("the weights hold " + core::quote(key) + ": " + why_not);
    const bool is_factor = parsed->part == PeftName::Part::A || parsed->part == PeftName::Part::B;
    if (is_factor && parsed->is_embedding != is_embedding(parsed->name)) {
      config.fail(core::quote(parsed->name) + ": not known as " +
                  (parsed->is_embedding ? "an embedding" : "a linear layer") +
                  ", which its factors are of");
    }
    switch (parsed->part) {
      case PeftName::Part::A: keys.a[parsed->name] = key; break;
      case PeftName::Part::B: keys.b[parsed->name] = key; break;
      case PeftName::Part::Copy: break;
      case PeftName::Part::Whole:  // of several spellings the plain one, as PEFT does
        if (!keys.whole.contains(parsed->name) || key == peft_key(parsed->name)) {
          keys.whole[parsed->name] = key;
        }
    }
  }
  for (const auto& [module, key] : keys.b) {
    if (!keys.a.contains(module)) {
      config.fail("the weights lack " + peft_key(module, PeftName::Part::A));
    }
  }
  return keys;
}

Factors read_pair(const SafetensorsFile& file, const std::string& module, const AdapterKeys& keys,
                  const PeftConfig& config) {
  const auto key_b = keys.b.find(module);
  if (key_b == keys.b.end()) {
    config.fail("the weights lack " + peft_key(module, PeftName::Part::B));
  }
  Factors factors{.b = file.tensor(key_b->second).to(at::kFloat),
                  .a = file.tensor(keys.a.at(module)).to(at::kFloat).clone()};
  if (factors.a.dim() != 2 || factors.b.dim() != 2 || factors.b.size(1) != factors.rank()) {
    config.fail(module + ": A and B do not fit each other");
  }
  factors.b = factors.b.mul(config.scale(module, factors.rank()));
  return factors;
}

/// FOLDER/adapter_model.safetensors, or the reason why there is none.
std::filesystem::path weights_of(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "adapter_model.safetensors";
  if (std::filesystem::exists(file)) return file;
  if (std::filesystem::exists(folder / "adapter_model.bin")) {
    throw core::ConfigError(
        (folder / "adapter_model.bin").string() +
        ": a pickle can run code when it is read, so it is not; convert it with PEFT: "
        "PeftModel.from_pretrained(BASE, DIR).save_pretrained(OUT, safe_serialization=True)");
  }
  throw core::ConfigError(file.string() +
                          ": is missing; name the folder that PEFT's "
                          "save_pretrained or a run (RUN/global) wrote");
}

}  // namespace

PeftFolder read_peft_about(const std::filesystem::path& folder) {
  return PeftConfig(folder / "adapter_config.json").about();
}

std::vector<std::int64_t> saved_shape(const std::filesystem::path& folder,
                                      const std::string& tensor) {
  const PeftConfig config(folder / "adapter_config.json");
  const SafetensorsFile file(weights_of(folder));
  const AdapterKeys keys = sort_keys(file, config);
  const auto found = keys.whole.find(tensor);
  if (found == keys.whole.end()) return {};
  return file.header().tensors.at(found->second).shape;
}

FactorSet read_peft(const std::filesystem::path& folder) {
  const PeftConfig config(folder / "adapter_config.json");
  const SafetensorsFile file(weights_of(folder));
  const AdapterKeys keys = sort_keys(file, config);
  FactorSet adapter;
  for (const auto& [module, key] : keys.a) {
    adapter.modules[module] = read_pair(file, module, keys, config);
    config.refuse_shared_tie(module);
  }
  for (const auto& [name, key] : keys.whole) {
    adapter.dense[name] = file.tensor(key).to(at::kFloat).clone();
  }
  return adapter;
}

}  // namespace drystone::tensors
