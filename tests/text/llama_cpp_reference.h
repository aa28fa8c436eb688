#pragma once
// llama.cpp's vocabulary references in the shared data: texts, and a line of ids for each.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "text/tokenizer.h"

namespace drystone::test {

/// Checks the tokenizer against ggml-vocab-NAME.gguf.out in `folder`.
inline void check_llama_cpp_ids(const text::Tokenizer& tokenizer,
                                const std::filesystem::path& folder, const std::string& name) {
  std::ifstream input(folder / "ggml-vocab.inp", std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(input), {}};
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::ifstream expected(folder / ("ggml-vocab-" + name + ".gguf.out"));
  std::size_t compared = 0;
  std::size_t begin = 0;
  for (std::string line; std::getline(expected, line); ++compared) {
    const std::size_t end = all.find(separator, begin);
    if (end == std::string::npos) break;
    std::istringstream numbers(line);
    const std::vector<text::TokenId> ids{std::istream_iterator<text::TokenId>(numbers), {}};
    CAPTURE(compared);
    CHECK(tokenizer.encode(all.substr(begin, end - begin), 0, false) == ids);
    begin = end + separator.size();
  }
  CHECK(compared >= 46);
}

}  // namespace drystone::test
