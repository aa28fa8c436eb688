#include "text/chat_template.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "text/jinja.h"
#include "text/tokenizer_json.h"
#include "text/tokenizer_roles.h"

namespace drystone::text {

namespace {

using jinja::Value;
using nlohmann::json;

constexpr std::uint64_t kMaxTemplateBytes = 1 << 20;

/// The field of tokenizer_config.json or chat_template.json: a text, or named ones, as a list or an
/// object. Absent also where none of these is the default.
std::optional<std::string> template_of(const json& config, const std::string& where) {
  const json& field = config.is_object() ? member(config, "chat_template") : config;
  if (field.is_null()) return std::nullopt;
  if (field.is_string()) return field.get<std::string>();
  if (field.is_object()) {
    const json& standard = member(field, "default");
    if (standard.is_null()) return std::nullopt;
    if (standard.is_string()) return standard.get<std::string>();
  }
  if (field.is_array()) {
    const auto is_default = [](const json& entry) {
      return entry.is_object() && member(entry, "name") == "default" &&
             member(entry, "template").is_string();
    };
    const auto found = std::ranges::find_if(field, is_default);
    return found == field.end() ? std::nullopt
                                : std::optional(found->at("template").get<std::string>());
  }
  throw core::ConfigError(where + ": chat_template is neither a text nor named texts; " +
                          "fetch the file again");
}

Value value_of(const nlohmann::ordered_json& parsed) {
  if (parsed.is_object()) {
    jinja::Dict dict;
    for (const auto& [key, entry] : parsed.items()) dict.entries.emplace_back(key, value_of(entry));
    return Value(std::move(dict));
  }
  if (parsed.is_array()) {
    jinja::List list;
    for (const auto& entry : parsed) list.push_back(value_of(entry));
    return Value(std::move(list));
  }
  if (parsed.is_string()) return Value(parsed.get<std::string>());
  if (parsed.is_boolean()) return Value(parsed.get<bool>());
  if (parsed.is_number_integer()) return Value(parsed.get<std::int64_t>());
  return parsed.is_number() ? Value(parsed.get<double>()) : Value::none();
}

Value conversation(std::span<const Message> messages) {
  jinja::List list;
  for (const Message& message : messages) {
    jinja::Dict turn{
        .entries = {{"role", Value(message.role)}, {"content", Value(message.content)}},
        .is_namespace = false};
    if (!message.more.empty()) {
      const auto more = core::parse_ordered_json(message.more, "message");
      for (const auto& [key, entry] : more.items()) turn.entries.emplace_back(key, value_of(entry));
    }
    list.emplace_back(std::move(turn));
  }
  return Value(std::move(list));
}

std::size_t common_prefix(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

/// What a template keeps of an answer for sure: the text behind thoughts, without white space.
std::string said(const Message& message) {
  constexpr std::string_view kThought = "</think>";
  constexpr std::string_view kSpace = " \t\n\r";
  std::string text = message.content;
  if (const std::size_t end = text.rfind(kThought); end != std::string::npos) {
    text.erase(0, end + kThought.size());
  }
  text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
  text.erase(text.find_last_not_of(kSpace) + 1);
  return text;
}

/// Length of the end-of-turn marker that both begin with: whole words of what they share.
std::size_t shared_marker(std::string_view a, std::string_view b) {
  const std::size_t shared = common_prefix(a, b);
  if (shared == a.size() || shared == b.size()) return shared;
  return a.substr(0, shared).find_last_of(" \t\n\r>]") + 1;
}

using Range = std::pair<std::size_t, std::size_t>;

/// Cuts `text` where answers begin and end.
std::vector<Span> cut(const std::string& text, const std::vector<Range>& answers) {
  std::vector<Span> spans;
  const auto push = [&](std::size_t begin, std::size_t end, bool is_answer) {
    if (begin < end) spans.push_back({text.substr(begin, end - begin), is_answer});
  };
  std::size_t done = 0;
  for (const auto& [begin, end] : answers) {
    push(done, begin, false);
    push(begin, end, true);
    done = end;
  }
  push(done, text.size(), false);
  return spans;
}

/// Where white space at the end of an answer begins, unless it is all that ends the turn.
std::size_t end_of_turn(const std::string& text, std::size_t begin, std::size_t end,
                        const std::string& content) {
  std::size_t last = end;
  while (last > begin &&
         std::string_view(" \t\n\r").find(text[last - 1]) != std::string_view::npos) {
    --last;
  }
  const std::size_t found = text.find(content, begin);
  const bool has_marker = found != std::string::npos && last > found + content.size();
  return has_marker ? last : end;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source,
                           std::map<std::string, std::string> special_tokens, std::string where,
                           std::time_t now)
    : special_tokens_(std::move(special_tokens)), where_(std::move(where)), now_(now) {
  try {
    template_ = std::make_unique<const jinja::Template>(source);
  } catch (const core::ConfigError& error) {
    throw core::ConfigError(where_ + ": " + error.what());
  }
}

ChatTemplate::~ChatTemplate() = default;

std::shared_ptr<const ChatTemplate> ChatTemplate::load(const std::filesystem::path& model_folder) {
  const std::filesystem::path config_file = model_folder / "tokenizer_config.json";
  const bool has_config = std::filesystem::is_regular_file(config_file);
  const json config = has_config ? read_json(config_file) : json::object();
  auto tokens = TokenizerRoles(model_folder).named();
  for (const char* const name :
       {"additional_chat_templates/default.jinja", "chat_template.jinja"}) {
    const std::filesystem::path own_file = model_folder / name;
    if (!std::filesystem::is_regular_file(own_file)) continue;
    return std::make_shared<ChatTemplate>(core::read_text_file(own_file, kMaxTemplateBytes),
                                          std::move(tokens), own_file.string());
  }
  const std::filesystem::path json_file = model_folder / "chat_template.json";
  if (std::filesystem::is_regular_file(json_file)) {
    if (const auto source = template_of(read_json(json_file), json_file.string())) {
      return std::make_shared<ChatTemplate>(*source, std::move(tokens), json_file.string());
    }
  }
  const auto source = template_of(config, config_file.string());
  if (!source) return nullptr;
  return std::make_shared<ChatTemplate>(*source, std::move(tokens), config_file.string());
}

jinja::Rendered ChatTemplate::run(std::span<const Message> messages,
                                  bool add_generation_prompt) const {
  jinja::Dict variables;
  variables.set("messages", conversation(messages));
  variables.set("tools", Value::none());
  variables.set("documents", Value::none());
  variables.set("add_generation_prompt", Value(add_generation_prompt));
  for (const auto& [name, token] : special_tokens_) variables.set(name, Value(token));
  try {
    return template_->render(variables, now_);
  } catch (const core::ConfigError& error) {
    throw core::ConfigError(where_ + ": " + error.what());
  }
}

std::string ChatTemplate::render(std::span<const Message> messages,
                                 bool add_generation_prompt) const {
  return run(messages, add_generation_prompt).text;
}

std::optional<std::string> ChatTemplate::beginning(std::span<const Message> messages,
                                                   bool add_generation_prompt) const {
  try {
    return run(messages, add_generation_prompt).text;
  } catch (const core::ConfigError&) {  // a part of a conversation may be none to the template
    return std::nullopt;
  }
}

std::optional<std::size_t> ChatTemplate::turn_begin(const std::string& text,
                                                    std::span<const Message> messages,
                                                    std::size_t turn, std::size_t from) const {
  const auto opened = beginning(messages.first(turn), /*add_generation_prompt=*/true);
  if (opened && text.starts_with(*opened)) return std::max(opened->size(), from);
  const auto closed = beginning(messages.first(turn), /*add_generation_prompt=*/false);
  if (closed && text.starts_with(*closed)) {
    return std::max({closed->size(), opened ? common_prefix(*opened, text) : 0, from});
  }
  const std::size_t found = text.find(said(messages[turn]), from);
  return found == std::string::npos ? std::nullopt : std::optional(found);
}

std::size_t ChatTemplate::turn_end(const std::string& text, std::span<const Message> messages,
                                   std::size_t turn, std::size_t begin) const {
  if (turn + 1 == messages.size()) return text.size();
  const auto closed = beginning(messages.first(turn + 1), /*add_generation_prompt=*/false);
  if (closed && text.starts_with(*closed)) return std::max(closed->size(), begin);
  // The turn reads differently once others follow: what is said, and what ended it before.
  const std::string content = said(messages[turn]);
  const std::size_t found = text.find(content, begin);
  if (found == std::string::npos) return begin;
  const std::size_t end = found + content.size();
  const std::size_t before = closed ? closed->rfind(content) : std::string::npos;
  if (before == std::string::npos) return end;
  return end + shared_marker(std::string_view(text).substr(end),
                             std::string_view(*closed).substr(before + content.size()));
}

std::vector<Span> ChatTemplate::render_spans(std::span<const Message> messages) const {
  const jinja::Rendered whole = run(messages, /*add_generation_prompt=*/false);
  if (!whole.generations.empty()) return cut(whole.text, whole.generations);
  std::vector<Range> answers;
  std::size_t done = 0;
  for (std::size_t turn = 0; turn < messages.size(); ++turn) {
    if (messages[turn].role != "assistant") continue;
    const auto begin = turn_begin(whole.text, messages, turn, done);
    if (!begin || *begin > whole.text.size()) continue;
    const std::size_t end = turn_end(whole.text, messages, turn, *begin);
    answers.emplace_back(*begin, end_of_turn(whole.text, *begin, end, said(messages[turn])));
    done = end;
  }
  return cut(whole.text, answers);
}

}  // namespace drystone::text
