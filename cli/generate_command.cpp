// drystone generate: a causal language model, with or without an adapter, continues texts.

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/prompts.h"
#include "core/error.h"
#include "core/log.h"
#include "data/id_check.h"
#include "evaluation/adapted_model.h"
#include "models/decoder/generation.h"
#include "models/device.h"
#include "models/load.h"
#include "tensors/threads.h"
#include "text/chat_template.h"
#include "text/token_stream.h"
#include "text/tokenizer.h"

namespace drystone::cli {

namespace fs = std::filesystem;

namespace {

struct Options {
  fs::path model;
  fs::path adapter;
  std::vector<std::string> prompts;
  fs::path prompt_file;
  std::string system;
  bool is_chat = false;
  std::string dtype = "float32";
  models::GenerationOptions generation;
  bool json = false;
};

/// Text → ids as the model was trained to continue them.
class PromptEncoder {
 public:
  PromptEncoder(const Options& options, const text::Tokenizer& tokenizer)
      : options_(options), tokenizer_(tokenizer) {
    if (!options.is_chat) return;
    chat_ = text::ChatTemplate::load(options.model);
    if (chat_ == nullptr) {
      throw core::ConfigError(options.model.string() +
                              ": has no chat template; leave --chat out and write the prompt as "
                              "the model knows it");
    }
  }

  std::vector<std::int64_t> encode(const Prompt& prompt) const {
    std::vector<text::TokenId> ids;
    if (chat_ != nullptr) {
      std::vector<text::Message> messages;
      if (!options_.system.empty())
        messages.push_back({.role = "system", .content = options_.system});
      messages.push_back({.role = "user", .content = prompt.text});
      ids = tokenizer_.encode(chat_->render(messages, /*add_generation_prompt=*/true), 0,
                              /*add_special=*/false);
    } else {
      ids = tokenizer_.encode(prompt.text);
      // What ends a text of a training set would end this one before it begins.
      const auto eos = tokenizer_.special().eos;
      if (ids.size() > 1 && eos && ids.back() == *eos) ids.pop_back();
    }
    if (ids.empty() && tokenizer_.special().bos) ids.push_back(*tokenizer_.special().bos);
    if (ids.empty()) {
      throw core::ConfigError(prompt.where + ": empty, and the model has no token that begins a " +
                              "text; write a text");
    }
    return {ids.begin(), ids.end()};
  }

 private:
  const Options& options_;
  const text::Tokenizer& tokenizer_;
  std::shared_ptr<const text::ChatTemplate> chat_;
};

evaluation::AdaptedModel load(const Options& options, const core::CommonOptions& common) {
  return evaluation::load_adapted({.folder = options.model,
                                   .task = models::Task::CausalLm,
                                   .dtype = models::parse_dtype(options.dtype),
                                   .device = models::parse_device(common.device)},
                                  options.adapter, options.adapter);
}

void print_json(const std::string& prompt, const std::vector<std::int64_t>& prompt_ids,
                const models::Generated& result, const std::string& text) {
  const nlohmann::ordered_json object = {{"prompt", prompt},
                                         {"text", text},
                                         {"prompt_tokens", prompt_ids.size()},
                                         {"ids", result.ids},
                                         {"stopped", result.stopped}};
  std::printf("%s\n",
              object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

/// Ready for what follows the prompt: a text's first token may lose its space, a later one not.
text::StreamDecoder decoder_after(const text::Tokenizer& tokenizer,
                                  const std::vector<std::int64_t>& prompt) {
  text::StreamDecoder decoder(tokenizer);
  for (const std::int64_t id : prompt) decoder.push(static_cast<text::TokenId>(id));
  return decoder;
}

std::string text_of(text::StreamDecoder decoder, const std::vector<std::int64_t>& ids) {
  std::string text;
  for (const std::int64_t id : ids) text += decoder.push(static_cast<text::TokenId>(id));
  return text + decoder.finish();
}

void report_speed(const std::vector<models::Generated>& results, double seconds) {
  std::int64_t num_tokens = 0;
  for (const models::Generated& result : results) {
    num_tokens += static_cast<std::int64_t>(result.ids.size());
  }
  core::log_info("generated", {{"tokens", num_tokens},
                               {"seconds", seconds},
                               {"tokens_per_second", static_cast<double>(num_tokens) / seconds}});
}

/// Rotary positions go on beyond what the model was made for; learnt ones end the text.
void warn_of_length(const models::InputLimits& limits,
                    const std::vector<std::vector<std::int64_t>>& prompts,
                    std::int64_t max_new_tokens) {
  std::size_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
  const auto prompt_tokens = static_cast<std::int64_t>(longest);
  const std::int64_t positions = std::max(limits.positions, limits.trained);
  if (positions == 0 || prompt_tokens + max_new_tokens <= positions) return;
  core::log_warning(limits.positions > 0
                        ? "the text ends where the model's positions do"
                        : "longer than the model was made for: what it says there may be worthless",
                    {{"prompt_tokens", prompt_tokens},
                     {"max_new_tokens", max_new_tokens},
                     {"positions", positions}});
}

int run(Options& options, const core::CommonOptions& common, const std::stop_token& stop) {
  if (!options.system.empty() && !options.is_chat) {
    throw core::ConfigError("--system: is a turn of a conversation; add --chat, or leave it out");
  }
  if (common.threads > 0) tensors::use_threads(static_cast<int>(common.threads));
  const std::vector<Prompt> prompts = read_prompts(options.prompts, options.prompt_file);
  const evaluation::AdaptedModel adapted = load(options, common);
  const auto tokenizer = text::load_tokenizer(adapted.tokenizer);
  const PromptEncoder encoder(options, *tokenizer);
  std::vector<std::vector<std::int64_t>> ids;
  for (const Prompt& prompt : prompts) ids.push_back(encoder.encode(prompt));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    data::check_ids(adapted.limits.tokens, std::vector<text::TokenId>(ids[i].begin(), ids[i].end()),
                    *tokenizer, prompts[i].where);
  }
  warn_of_length(adapted.limits, ids, options.generation.max_new_tokens);

  const bool streams = prompts.size() == 1 && !options.json;
  text::StreamDecoder decoder = decoder_after(*tokenizer, ids.front());
  const auto show = [](const std::string& piece) {
    std::fputs(piece.c_str(), stdout);
    std::fflush(stdout);
  };
  options.generation.stop_ids = models::stop_ids_of(options.model);
  options.generation.stop = stop;
  if (streams) {
    options.generation.on_token = [&](std::size_t, std::int64_t token) {
      show(decoder.push(static_cast<text::TokenId>(token)));
    };
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto results = models::generate(*adapted.model, ids, options.generation);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (streams) {
    show(decoder.finish() + "\n");
  } else {
    for (std::size_t i = 0; i < results.size(); ++i) {
      const std::string text = text_of(decoder_after(*tokenizer, ids[i]), results[i].ids);
      if (options.json) {
        print_json(prompts[i].text, ids[i], results[i], text);
      } else {
        std::printf("%s--- %s: %s\n%s\n", i == 0 ? "" : "\n", prompts[i].where.c_str(),
                    prompts[i].text.c_str(), text.c_str());
      }
    }
  }
  report_speed(results, seconds);
  return core::kDone;
}

void add_sampling_options(core::CommandLine& line, models::GenerationOptions& generation) {
  models::Sampling& sampling = generation.sampling;
  line.option("--max-new-tokens", generation.max_new_tokens, "Tokens after each prompt")
      .check(core::whole_number({.low = 1}));
  line.option("--temperature", sampling.temperature, "0: always the most probable token")
      .check(core::real_number({}));
  line.option("--top-k", sampling.top_k, "Draw from the k most probable tokens; 0: all")
      .check(core::whole_number({}));
  line.option("--top-p", sampling.top_p,
              "Draw from the fewest tokens that have this probability together")
      .check(core::real_number({.low = 1e-6, .high = 1.0}));
  line.option("--repetition-penalty", sampling.repetition_penalty,
              "Above 1: tokens of the text so far become less probable")
      .check(core::real_number({.open_low = true}));
  line.option("--seed", sampling.seed, "Same seed, same text").check(core::whole_number({}));
  line.option("--batch", generation.rows, "Prompts that run together")
      .check(core::whole_number({.low = 1}));
}

}  // namespace

Command add_generate(core::CommandLine& line) {
  auto options = std::make_shared<Options>();
  line.option("--model", options->model, "Base model: a Hugging Face folder").required();
  line.option("--adapter", options->adapter, "PEFT folder, e.g. RUN/global");
  line.option("--prompt", options->prompts, "Text to continue; may be repeated (default: stdin)");
  line.option("--prompt-file", options->prompt_file, "One prompt a line");
  line.flag("--chat", options->is_chat, "Prompts are a user's turns in the model's chat template");
  line.option("--system", options->system, "System turn before each prompt; with --chat");
  line.option("--dtype", options->dtype, "float32, bfloat16 or float64")
      .check(core::one_of({"float32", "bfloat16", "float64"}));
  add_sampling_options(line, options->generation);
  line.flag("--json", options->json, "For programs: one object a prompt and line");
  return [options](const core::CommonOptions& common, const std::stop_token& stop) {
    return run(*options, common, stop);
  };
}

}  // namespace drystone::cli
