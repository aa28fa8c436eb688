#pragma once
// Chat templates of Hugging Face models: a conversation → text, as transformers'
// `apply_chat_template` renders it (without tools and documents).

#include <ctime>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/conversation.h"

namespace drystone::text {

namespace jinja {
class Template;
struct Rendered;
}  // namespace jinja

/// Immutable: may be used from several threads at once.
class ChatTemplate {
 public:
  /// @param source          Jinja
  /// @param special_tokens  bos_token, eos_token, …, as the template's variables
  /// @param where           for messages: the file
  /// @param now             what strftime_now gives, for the life of the object
  /// @throws core::ConfigError  not understood, with the line in the template
  ChatTemplate(std::string_view source, std::map<std::string, std::string> special_tokens,
               std::string where = "chat template", std::time_t now = std::time(nullptr));
  ~ChatTemplate();

  /// The template of a model folder: additional_chat_templates/default.jinja, else
  /// chat_template.jinja, else chat_template.json, else the field of tokenizer_config.json (of
  /// several the one named "default"); its variables are the tokens that TokenizerRoles names.
  /// @return null if the model has none
  /// @throws core::ConfigError  malformed files, or as the constructor
  static std::shared_ptr<const ChatTemplate> load(const std::filesystem::path& model_folder);

  /// @param add_generation_prompt  end with what opens the assistant's turn
  /// @throws core::ConfigError  the template raises an exception ("Conversation roles must
  ///                            alternate …"), or exceeds the limits of jinja.h
  std::string render(std::span<const Message> messages, bool add_generation_prompt) const;

  /// The whole conversation in pieces, those of the assistant marked as answers: between
  /// {% generation %} tags where the template has them. Otherwise a turn's answer is what the
  /// rendering up to it and without it, but with the generation prompt, do not share; white space
  /// behind its end-of-turn token is left out. Turns that the template rewrites later (thoughts
  /// that it drops) are found by their content.
  /// @throws as render
  std::vector<Span> render_spans(std::span<const Message> messages) const;

 private:
  jinja::Rendered run(std::span<const Message> messages, bool add_generation_prompt) const;
  /// As run; absent where the template refuses.
  std::optional<std::string> beginning(std::span<const Message> messages,
                                       bool add_generation_prompt) const;
  std::optional<std::size_t> turn_begin(const std::string& text, std::span<const Message> messages,
                                        std::size_t turn, std::size_t from) const;
  std::size_t turn_end(const std::string& text, std::span<const Message> messages, std::size_t turn,
                       std::size_t begin) const;

  std::unique_ptr<const jinja::Template> template_;
  std::map<std::string, std::string> special_tokens_;
  std::string where_;
  std::time_t now_;
};

}  // namespace drystone::text
