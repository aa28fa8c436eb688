// drystone tokenize: what a model's tokenizer makes of text.

#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "text/token_lines.h"

namespace drystone::cli {

namespace {

struct Options {
  std::filesystem::path model;
  bool decode = false;
  bool no_special = false;
};

int run(const Options& options) {
  const auto tokenizer = text::load_tokenizer(options.model);
  std::ios::sync_with_stdio(false);
  if (options.decode) {
    text::decode_lines(*tokenizer, std::cin, std::cout);
  } else {
    text::encode_lines(*tokenizer, !options.no_special, std::cin, std::cout);
  }
  std::cout.flush();
  return core::kDone;
}

}  // namespace

Command add_tokenize(core::CommandLine& line) {
  auto options = std::make_shared<Options>();
  line.option("--model", options->model, "Hugging Face folder with a tokenizer").required();
  const auto decode = line.flag("--decode", options->decode, "Lists of ids in, text out");
  line.flag("--no-special", options->no_special, "Without the special tokens around a text")
      .excludes(decode);
  return [options](const core::CommonOptions&, const std::stop_token&) { return run(*options); };
}

}  // namespace drystone::cli
