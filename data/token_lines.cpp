#include "data/token_lines.h"

#include <istream>
#include <ostream>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace drystone::data {

namespace {

std::vector<TokenId> parse_ids(const std::string& line, std::size_t number) {
  try {
    return nlohmann::json::parse(line).get<std::vector<TokenId>>();
  } catch (const nlohmann::json::exception&) {
    throw core::Error("line " + std::to_string(number) +
                      ": not a list of token ids; write one like [1, 2, 3] a line");
  }
}

}  // namespace

void encode_lines(const Tokenizer& tokenizer, bool add_special, std::istream& in,
                  std::ostream& out) {
  std::vector<TokenId> ids;
  for (std::string line; std::getline(in, line);) {
    ids.clear();
    tokenizer.encode_into(line, /*max_length=*/0, add_special, ids);
    const char* before = "[";
    for (const TokenId id : ids) {
      out << before << id;
      before = ", ";
    }
    out << (ids.empty() ? "[]\n" : "]\n");
  }
}

void decode_lines(const Tokenizer& tokenizer, std::istream& in, std::ostream& out) {
  std::string line;
  for (std::size_t number = 1; std::getline(in, line); ++number) {
    out << tokenizer.decode(parse_ids(line, number)) << '\n';
  }
}

}  // namespace drystone::data
