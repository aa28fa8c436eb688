#pragma once
// What a chat template takes, and what it gives.

#include <string>

namespace drystone::text {

/// One turn of a conversation.
struct Message {
  std::string role;  ///< system | user | assistant | …
  std::string content;
  std::string more = {};  ///< its other members ("tool_calls"), a JSON object; empty: none

  bool operator==(const Message&) const = default;
};

/// A piece of a rendered example; pieces follow each other without anything between them.
struct Span {
  std::string text;
  bool is_answer = false;  ///< what loss_on = "answer" learns

  bool operator==(const Span&) const = default;
};

}  // namespace drystone::text
