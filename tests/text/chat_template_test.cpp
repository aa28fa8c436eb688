#include "text/chat_template.h"

#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/text/files.h"

using namespace drystone::text;
using drystone::core::ConfigError;
using drystone::test::contains;
using drystone::test::message_of;
using drystone::test::TemporaryFolder;
using drystone::test::write_file;
using nlohmann::json;

namespace {

/// What transformers makes of our templates: tests/oracles/chat_template_cases.py.
const json& cases() {
  static const json all = [] {
    std::ifstream stream(DRYSTONE_SOURCE_DIR "/tests/text/chat_template_cases.json");
    return json::parse(stream);
  }();
  return all;
}

std::vector<std::vector<Message>> conversations() {
  std::vector<std::vector<Message>> result;
  for (const json& turns : cases().at("conversations")) {
    std::vector<Message>& messages = result.emplace_back();
    for (const json& turn : turns) messages.push_back({turn.at("role"), turn.at("content")});
  }
  return result;
}

ChatTemplate chat_template(const std::string& name) {
  for (const json& chat : cases().at("chats")) {
    if (chat.at("name") == name)
      return {chat.at("template").get<std::string>(), cases().at("tokens")};
  }
  throw ConfigError("no template " + name);
}

/// The answers with « » around them.
std::string marked(const std::vector<Span>& spans) {
  std::string text;
  for (const Span& span : spans) text += span.is_answer ? "«" + span.text + "»" : span.text;
  return text;
}

std::string plain(const std::vector<Span>& spans) {
  std::string text;
  for (const Span& span : spans) text += span.text;
  return text;
}

const std::vector<Message> kShort = {{"user", "q"}, {"assistant", "a"}};
const std::vector<Message> kLong = {
    {"user", "q"}, {"assistant", "a"}, {"user", "q"}, {"assistant", "a"}};

}  // namespace

TEST_CASE("chat template: families render as in transformers") {
  int compared = 0;
  for (const json& chat : cases().at("chats")) {
    CAPTURE(chat.at("name").get<std::string>());
    const ChatTemplate chats(chat.at("template").get<std::string>(), cases().at("tokens"));
    const auto all = conversations();
    for (std::size_t i = 0; i < all.size(); ++i) {
      CAPTURE(i);
      for (const bool prompt : {false, true}) {
        const json& expected = chat.at("texts").at(i).at(prompt ? 1 : 0);
        ++compared;
        if (expected.is_null()) {
          CHECK_THROWS_AS(chats.render(all[i], prompt), ConfigError);
        } else {
          CHECK(chats.render(all[i], prompt) == expected.get<std::string>());
        }
      }
    }
  }
  MESSAGE(compared << " renderings compared");
  CHECK(compared > 150);
}

TEST_CASE("chat template: the spans of every conversation add up to its text") {
  for (const json& chat : cases().at("chats")) {
    CAPTURE(chat.at("name").get<std::string>());
    const ChatTemplate chats(chat.at("template").get<std::string>(), cases().at("tokens"));
    for (const auto& messages : conversations()) {
      try {
        const std::string text = chats.render(messages, false);
        CHECK(plain(chats.render_spans(messages)) == text);
      } catch (const ConfigError&) {  // a conversation that the template refuses
      }
    }
  }
}

TEST_CASE("chat template: answers are the assistant's turns with what ends them") {
  const auto shown = [](const std::string& name) {
    return marked(chat_template(name).render_spans(kLong));
  };
  CHECK(shown("llama2") == "<s>[INST] q [/INST]« a </s>»<s>[INST] q [/INST]« a </s>»");
  CHECK(shown("mistral") == "<s>[INST] q [/INST]«a</s>» [INST] q [/INST]«a</s>» ");
  CHECK(shown("gemma") ==
        "<s><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n«a<end_of_turn>»\n"
        "<start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n«a<end_of_turn>»\n");
  CHECK(shown("qwen2.5") ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
        "<|im_start|>assistant\n«a<|im_end|>»\n<|im_start|>user\nq<|im_end|>\n"
        "<|im_start|>assistant\n«a<|im_end|>»\n");
  CHECK(shown("phi3") ==
        "<|user|>\nq<|end|>\n<|assistant|>\n«a<|end|>»\n<|user|>\nq<|end|>\n"
        "<|assistant|>\n«a<|end|>\n</s>»");
  CHECK(marked(chat_template("zephyr").render_spans(kShort)) ==
        "<|user|>\nq</s>\n<|assistant|>\n«a</s>»\n");
  CHECK(marked(chat_template("generation").render_spans(kShort)) ==
        "<|user|>\nq<|end|>\n<|assistant|>\n«a<|end|>»\n");
}

TEST_CASE("chat template: thoughts that are dropped later, and answers before any question") {
  const std::vector<Message> thinking = {{"user", "q"},
                                         {"assistant", "<think>\nhm\n</think>\n\n42"},
                                         {"user", "r"},
                                         {"assistant", "<think>\nso\n</think>\n\n43"}};
  CHECK(marked(chat_template("qwen3").render_spans(thinking)) ==
        "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n«42<|im_end|>»\n"
        "<|im_start|>user\nr<|im_end|>\n"
        "<|im_start|>assistant\n«<think>\nso\n</think>\n\n43<|im_end|>»\n");
  const std::vector<Message> greeting = {{"assistant", "hello"}, {"user", "q"}};
  CHECK(marked(chat_template("phi3").render_spans(greeting)) ==
        "<|assistant|>\n«hello<|end|>»\n<|user|>\nq<|end|>\n</s>");
}

TEST_CASE("chat template: generation tags mark what transformers' mask marks") {
  const auto all = conversations();
  const ChatTemplate chats = chat_template("generation");
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    const json& expected = cases().at("generation_spans").at(i);
    json found = json::array();
    std::size_t position = 0;
    for (const Span& span : chats.render_spans(all[i])) {
      if (span.is_answer) found.push_back({position, position + span.text.size()});
      position += span.text.size();
    }
    CHECK(found == expected);
  }
}

TEST_CASE("chat template: where a model folder keeps it") {
  const TemporaryFolder folder;
  CHECK(ChatTemplate::load(folder.path()) == nullptr);
  write_file(folder, "tokenizer_config.json",
             R"({"bos_token": {"content": "<B>"}, "eos_token": "<E>", "unk_token": null,
                 "chat_template": [{"name": "tool_use", "template": "x"},
                 {"name": "default", "template": "{{ bos_token }}c{{ unk_token }}"}]})");
  CHECK(ChatTemplate::load(folder.path())->render(kShort, false) == "<B>c");
  write_file(folder, "chat_template.json", R"({"chat_template": "{{ eos_token }}j"})");
  CHECK(ChatTemplate::load(folder.path())->render(kShort, false) == "<E>j");
  write_file(folder, "chat_template.jinja", "{{ messages[0].content }}\n{{ oops( }}");
  CHECK(contains(message_of<ConfigError>([&] { ChatTemplate::load(folder.path()); }),
                 "chat_template.jinja: line 2: "));
  std::filesystem::create_directory(folder.path() / "additional_chat_templates");
  write_file(folder, "additional_chat_templates/tool_use.jinja", "{{ oops( }}");
  write_file(folder, "additional_chat_templates/default.jinja", "{{ bos_token }}a");
  CHECK(ChatTemplate::load(folder.path())->render(kShort, false) == "<B>a");
}

TEST_CASE("chat template: named ones by key, none without a default, tokens of the older map") {
  const TemporaryFolder folder;
  const auto load = [&](const std::string& config) {
    write_file(folder, "tokenizer_config.json", config);
    return ChatTemplate::load(folder.path());
  };
  write_file(folder, "special_tokens_map.json", R"({"bos_token": "<B>", "pad_token": "<P>"})");
  const std::string text = R"("{{ bos_token }}{{ pad_token }}{{ image_token }}c")";
  const std::string image = R"("image_token": "<I>", "pad_token": "<p>")";
  CHECK(load("{\"chat_template\": " + text + ", " + image + "}")->render(kShort, false) ==
        "<B><P><I>c");
  CHECK(load("{\"chat_template\": {\"tool_use\": \"x\", \"default\": " + text +
             "}, \"added_tokens_decoder\": {}, " + image + "}")
            ->render(kShort, false) == "<p><I>c");
  CHECK(load(R"({"chat_template": {"tool_use": "x"}})") == nullptr);
  CHECK(load(R"({"chat_template": [{"name": "rag", "template": "x"}]})") == nullptr);
  CHECK(load(R"({"chat_template": null})") == nullptr);
  CHECK(contains(message_of<ConfigError>([&] { load(R"({"chat_template": 5})"); }),
                 "tokenizer_config.json: chat_template is neither"));
}

TEST_CASE("chat template: a message's other members reach the template in their order") {
  const ChatTemplate chats(
      "{% for m in messages %}{{ m.role }}:{{ m.content }}"
      "{% for c in m.tool_calls %}[{{ c.name }}{{ c.arguments | tojson }}]{% endfor %}|{% endfor "
      "%}",
      {});
  const std::vector<Message> messages = {
      {"user", "q"},
      {"assistant", "",
       R"({"tool_calls": [{"name": "f", "arguments": {"z": 1, "a": [null, 2.5]}}]})"},
      {"tool", "3"}};
  CHECK(chats.render(messages, false) ==
        "user:q|assistant:[f{\"z\": 1, \"a\": [null, 2.5]}]|tool:3|");
  CHECK(marked(chats.render_spans(messages)) ==
        "user:q|«assistant:[f{\"z\": 1, \"a\": [null, 2.5]}]|»tool:3|");
}

TEST_CASE("chat template: an error of the template says where and what") {
  CHECK(contains(message_of<ConfigError>([] {
                   chat_template("gemma").render(std::vector<Message>{{"system", "s"}}, false);
                 }),
                 "chat template: line 1: no system role"));
}
