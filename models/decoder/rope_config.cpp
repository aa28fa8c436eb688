// How a RopeConfig is read from config.json.

#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "core/text.h"
#include "models/decoder/rope.h"

namespace drystone::models {
namespace {

RopeKind kind_of(const HfConfig& section) {
  static constexpr std::array<std::pair<std::string_view, RopeKind>, 7> kKinds = {{
      {"default", RopeKind::Default},
      {"linear", RopeKind::Linear},
      {"dynamic", RopeKind::Dynamic},
      {"llama3", RopeKind::Llama3},
      {"yarn", RopeKind::Yarn},
      {"longrope", RopeKind::LongRope},
      {"su", RopeKind::LongRope},  // Phi-3's first name for it
  }};
  const char* const key = section.has("rope_type") ? "rope_type" : "type";
  const std::string word = section.text_or(key, "default");
  std::vector<std::string> known;
  for (const auto& [name, kind] : kKinds) {
    if (name == word) return kind;
    known.emplace_back(name);
  }
  section.fail(key, core::quote(word) + " is not supported; these are: " + core::join(known));
}

double required(const HfConfig& section, std::string_view key) {
  if (!section.has(key)) section.fail(key, "is missing");
  return section.positive_or(key, 1.0);
}

/// 0.1 · weight · ln(factor) + 1, YaRN's temperature.
double yarn_temperature(double factor, double weight = 1.0) {
  return factor <= 1.0 ? 1.0 : 0.1 * weight * std::log(factor) + 1.0;
}

void read_yarn(const HfConfig& section, RopeConfig& rope) {
  rope.beta_fast = section.positive_or("beta_fast", 32.0);
  rope.beta_slow = section.positive_or("beta_slow", 1.0);
  rope.truncate = section.flag_or("truncate", true);
  double temperature = yarn_temperature(rope.factor);
  if (section.has("mscale") && section.has("mscale_all_dim")) {
    temperature = yarn_temperature(rope.factor, section.positive_or("mscale", 1.0)) /
                  yarn_temperature(rope.factor, section.positive_or("mscale_all_dim", 1.0));
  }
  rope.attention_factor = section.positive_or("attention_factor", temperature);
}

void read_longrope(const HfConfig& section, RopeConfig& rope) {
  rope.short_factor = section.numbers("short_factor");
  rope.long_factor = section.numbers("long_factor");
  for (const auto& [key, factors] : {std::pair("short_factor", &rope.short_factor),
                                     std::pair("long_factor", &rope.long_factor)}) {
    if (static_cast<std::int64_t>(factors->size()) != rope.rotated / 2) {
      section.fail(key, "must have " + std::to_string(rope.rotated / 2) + " numbers, has " +
                            std::to_string(factors->size()));
    }
  }
  const auto original = static_cast<double>(rope.original_positions);
  const double ratio = static_cast<double>(rope.max_positions) / original;
  rope.factor = section.positive_or("factor", ratio);
  const double scale =
      rope.factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(rope.factor) / std::log(original));
  rope.attention_factor = section.positive_or("attention_factor", scale);
}

void read_scaling(const HfConfig& config, const HfConfig& section, RopeConfig& rope) {
  // Phi-3 has original_max_position_embeddings outside, and there it takes precedence.
  rope.original_positions =
      config.size_or("original_max_position_embeddings",
                     section.size_or("original_max_position_embeddings", rope.max_positions));
  switch (rope.kind) {
    case RopeKind::Default: return;
    case RopeKind::Linear:
    case RopeKind::Dynamic: rope.factor = required(section, "factor"); return;
    case RopeKind::Llama3:
      rope.factor = required(section, "factor");
      rope.low_freq_factor = required(section, "low_freq_factor");
      rope.high_freq_factor = required(section, "high_freq_factor");
      return;
    case RopeKind::Yarn:
      rope.factor = section.positive_or("factor", static_cast<double>(rope.max_positions) /
                                                      static_cast<double>(rope.original_positions));
      read_yarn(section, rope);
      return;
    case RopeKind::LongRope: read_longrope(section, rope); return;
  }
}

/// The object that describes this kind of layer; an empty one where config.json has none.
HfConfig section_of(const HfConfig& config, const std::string& layer_type) {
  const auto parameters = config.section("rope_parameters");
  if (parameters && !layer_type.empty() && parameters->has(layer_type)) {
    return *parameters->section(layer_type);
  }
  if (parameters && !parameters->has("full_attention") && !parameters->has("sliding_attention")) {
    return *parameters;
  }
  if (parameters && layer_type.empty()) {
    config.fail("rope_parameters", "one object a layer type is not supported for this family");
  }
  // Of transformers 4's two, the scaling is the global layers'.
  const auto scaling = config.section("rope_scaling");
  if (scaling && layer_type != "sliding_attention") return *scaling;
  return HfConfig::parse("{}", config.file());
}

}  // namespace

RopeConfig read_rope(const HfConfig& config, const RopeDefaults& defaults,
                     const std::string& layer_type) {
  const HfConfig section = section_of(config, layer_type);
  const char* const outer =
      layer_type == "sliding_attention" ? "rope_local_base_freq" : "rope_theta";
  RopeConfig rope{
      .kind = kind_of(section),
      .theta = section.positive_or("rope_theta", config.positive_or(outer, defaults.theta)),
      .max_positions = config.size_or("max_position_embeddings", 2048)};
  const double part = section.positive_or("partial_rotary_factor",
                                          config.positive_or("partial_rotary_factor", 1.0));
  rope.rotated = static_cast<std::int64_t>(static_cast<double>(defaults.head_size) * part);
  if (rope.rotated < 2 || rope.rotated % 2 != 0 || rope.rotated > defaults.head_size) {
    config.fail("partial_rotary_factor",
                "makes " + std::to_string(rope.rotated) + " of " +
                    std::to_string(defaults.head_size) +
                    " numbers a head turn; it must be an even number of them");
  }
  read_scaling(config, section, rope);
  return rope;
}

}  // namespace drystone::models
