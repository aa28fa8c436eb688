#include "text/token_lines.h"

#include <istream>
#include <ostream>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "text/tokenizer_json.h"

namespace drystone::text {

namespace {

std::vector<TokenId> parse_ids(const std::string& line, std::size_t number) {
  const std::string where = "line " + std::to_string(number);
  try {
    const nlohmann::json list = core::parse_json(line, where);
    std::vector<TokenId> ids;
    for (const nlohmann::json& id : list) ids.push_back(token_id(id));
    if (list.is_array()) return ids;
  } catch (const core::ConfigError&) {  // said below
  }
  throw core::Error(where + ": not a list of token ids; write one like [1, 2, 3] a line");
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

}  // namespace drystone::text
