#include "models/decoder/generation.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>

#include "core/check.h"
#include "core/files.h"
#include "models/decoder/decoder_session.h"
#include "models/hf_config.h"

namespace drystone::models {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 1 << 24;

/// Some of the prompts, running together.
class Group {
 public:
  Group(Decoder& decoder, std::span<const std::vector<std::int64_t>> prompts, std::size_t first,
        const GenerationOptions& options, std::span<Generated> results)
      : options_(options),
        first_(first),
        results_(results),
        limits_(limits(decoder, prompts, options)),
        session_(decoder, {prompts.begin(), prompts.end()}, capacity(prompts, limits_)) {
    for (std::size_t i = 0; i < prompts.size(); ++i) active_.push_back(i);
  }

  void run() {
    at::Tensor logits = session_.prefill();
    while (true) {
      const std::vector<std::int64_t> tokens = choose(logits);
      const std::vector<std::int64_t> next = accept(tokens);
      if (active_.empty() || options_.stop.stop_requested()) return;
      logits = session_.step(next);
    }
  }

 private:
  /// How many new tokens each prompt may get.
  static std::vector<std::size_t> limits(const Decoder& decoder,
                                         std::span<const std::vector<std::int64_t>> prompts,
                                         const GenerationOptions& options) {
    std::vector<std::size_t> result;
    for (const auto& prompt : prompts) {
      std::int64_t limit = options.max_new_tokens;
      if (decoder.config().ropes.empty()) {
        const auto length = static_cast<std::int64_t>(prompt.size());
        core::require(length <= decoder.config().max_positions,
                      "generate: a prompt of " + std::to_string(length) +
                          " tokens exceeds the model's " +
                          std::to_string(decoder.config().max_positions) + " positions");
        limit = std::min(limit, decoder.config().max_positions - length + 1);
      }
      result.push_back(static_cast<std::size_t>(limit));
    }
    return result;
  }
  /// The last new token is never read, so it needs no place.
  static std::int64_t capacity(std::span<const std::vector<std::int64_t>> prompts,
                               const std::vector<std::size_t>& limits) {
    std::size_t most = 0;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      most = std::max(most, prompts[i].size() + limits[i] - 1);
    }
    return static_cast<std::int64_t>(most);
  }

  std::vector<std::int64_t> choose(const at::Tensor& logits) const {
    const Sampling& sampling = options_.sampling;
    std::vector<std::int64_t> tokens;
    if (sampling.is_greedy() && sampling.repetition_penalty == 1.0) {
      const at::Tensor best = logits.argmax(-1).to(at::kCPU);
      tokens.assign(best.const_data_ptr<std::int64_t>(),
                    best.const_data_ptr<std::int64_t>() + best.size(0));
      return tokens;
    }
    for (std::size_t row = 0; row < active_.size(); ++row) {
      const at::Tensor scores = process_logits(logits.select(0, static_cast<std::int64_t>(row)),
                                               session_.text(row), sampling);
      const std::size_t position = results_[active_[row]].ids.size();
      tokens.push_back(
          sampling.is_greedy()
              ? scores.argmax(-1).item<std::int64_t>()
              : draw(scores,
                     token_stream(sampling.seed, first_ + active_[row], position).uniform()));
    }
    return tokens;
  }

  /// Takes the tokens into the results and lets the texts go that have ended.
  /// @return  the tokens of those that go on
  std::vector<std::int64_t> accept(const std::vector<std::int64_t>& tokens) {
    std::vector<std::int64_t> next;
    std::vector<std::int64_t> rows;
    std::vector<std::size_t> active;
    for (std::size_t row = 0; row < tokens.size(); ++row) {
      Generated& result = results_[active_[row]];
      const auto& stops = options_.stop_ids;
      result.stopped = std::find(stops.begin(), stops.end(), tokens[row]) != stops.end();
      if (result.stopped) continue;
      result.ids.push_back(tokens[row]);
      if (options_.on_token) options_.on_token(first_ + active_[row], tokens[row]);
      if (result.ids.size() >= limits_[active_[row]]) continue;
      next.push_back(tokens[row]);
      rows.push_back(static_cast<std::int64_t>(row));
      active.push_back(active_[row]);
    }
    if (!rows.empty() && rows.size() < tokens.size()) session_.keep(rows);
    active_ = std::move(active);
    return next;
  }

  const GenerationOptions& options_;
  std::size_t first_;  ///< number of the group's first prompt
  std::span<Generated> results_;
  std::vector<std::size_t> limits_;
  DecoderSession session_;
  std::vector<std::size_t> active_;  ///< the session's rows as numbers within the group
};

}  // namespace

std::vector<Generated> generate(Model& model, std::span<const std::vector<std::int64_t>> prompts,
                                const GenerationOptions& options) {
  auto* const decoder = dynamic_cast<Decoder*>(&model);
  core::require(decoder != nullptr, "generate: the model is not a causal language model");
  core::require(options.max_new_tokens >= 1, "generate: max_new_tokens must be >= 1");
  core::require(options.rows >= 1, "generate: rows must be >= 1");
  options.sampling.check();
  const at::NoGradGuard no_grad;
  std::vector<Generated> results(prompts.size());
  const auto rows = static_cast<std::size_t>(options.rows);
  for (std::size_t first = 0; first < prompts.size(); first += rows) {
    if (options.stop.stop_requested()) break;
    const std::size_t count = std::min(rows, prompts.size() - first);
    Group(*decoder, prompts.subspan(first, count), first, options,
          std::span(results).subspan(first, count))
        .run();
  }
  return results;
}

std::vector<std::int64_t> stop_ids_of(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "generation_config.json";
  if (std::filesystem::exists(file)) {
    const auto ids =
        HfConfig::parse(core::read_text_file(file, kMaxConfigBytes), file).ids("eos_token_id");
    if (!ids.empty()) return ids;
  }
  return HfConfig::load(folder).ids("eos_token_id");
}

}  // namespace drystone::models
