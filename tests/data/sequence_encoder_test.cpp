#include "data/sequence_encoder.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/text/files.h"
#include "tests/text/greedy_tokenizer.h"

using namespace drystone::data;
using namespace drystone::text;
using drystone::core::ConfigError;
using drystone::test::contains;
using drystone::test::GreedyTokenizer;
using drystone::test::message_of;

namespace {

Record instruction(const std::string& question, const std::string& answer,
                   const std::string& input = "") {
  Record record;
  record.fields = {{"instruction", question}, {"output", answer}};
  if (!input.empty()) record.fields["input"] = input;
  return record;
}

Record text(const std::string& content) {
  Record record;
  record.text = content;
  return record;
}

/// The example's tokens with | between them; what is learnt in brackets.
std::string shown(const GreedyTokenizer& tokenizer, const SequenceEncoder::Example& example) {
  std::string result;
  for (std::size_t i = 0; i < example.ids.size(); ++i) {
    const bool is_learnt = example.labels[i] != kNoLabel;
    if (is_learnt) CHECK(example.labels[i] == example.ids[i]);
    const std::string piece = tokenizer.piece(example.ids[i]);
    result += is_learnt ? "[" + piece + "]" : piece;
  }
  return result;
}

std::string encoded(const GreedyTokenizer& tokenizer, const Record& record,
                    SequenceOptions options) {
  const SequenceEncoder encoder(tokenizer, nullptr, std::move(options));
  const auto example = encoder.encode(record, "here");
  return example ? shown(tokenizer, *example) : "nothing";
}

std::string rendered(const Record& record, const std::string& name) {
  static const GreedyTokenizer tokenizer;
  std::string result;
  const SequenceEncoder encoder(tokenizer, nullptr, {.prompt_template = name});
  for (const Span& span : encoder.render(record, "here")) {
    result += span.is_answer ? "«" + span.text + "»" : span.text;
  }
  return result;
}

std::shared_ptr<const ChatTemplate> bracket_chat() {
  return std::make_shared<ChatTemplate>(
      "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
      "{% if add_generation_prompt %}<assistant>{% endif %}",
      std::map<std::string, std::string>{});
}

const SequenceOptions kOwn{.prompt_template = "{q}: ", .answer_field = "a"};

}  // namespace

TEST_CASE("sequences: alpaca and dolly as published") {
  CHECK(rendered(instruction("Add.", "3", "1 2"), "alpaca") ==
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n### "
        "Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:«3»");
  CHECK(rendered(instruction("Add.", "3"), "alpaca") ==
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nAdd.\n\n### Response:«3»");
  CHECK(rendered(instruction("Add.", "3", "1 2"), "dolly") ==
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nAdd.\n\nInput:\n1 2\n\n### "
        "Response:\n«3\n\n### End»");
  CHECK(rendered(instruction("Add.", "3", "1 2"), "plain") == "Add.\n1 2\n«3»");
  CHECK(rendered(instruction("Add.", "3"), "plain") == "Add.\n«3»");
  CHECK(rendered(text("all"), "plain") == "«all»");
  CHECK(rendered(text("all"), "auto") == "«all»");
  CHECK(contains(rendered(instruction("Add.", "3"), "auto"), "### Response:«3»"));
}

TEST_CASE("sequences: own templates, braces, and their mistakes") {
  const GreedyTokenizer tokenizer;
  Record record;
  record.fields = {{"q", "Q{x}"}, {"a", "A"}};
  const SequenceEncoder encoder(tokenizer, nullptr,
                                {.prompt_template = "{{{q}}} {q}=", .answer_field = "a"});
  CHECK(encoder.render(record, "").front().text == "{Q{x}} Q{x}=");
  const auto refusal = [](const std::string& prompt, const std::string& answer) {
    return message_of<ConfigError>([&] { sequence_fields(prompt, answer); });
  };
  CHECK(contains(refusal("{q", "a"), "data.template: the brace at byte 1 belongs to no field"));
  CHECK(contains(refusal("{q} }", "a"), "the brace at byte 5"));
  CHECK(contains(refusal("{}", "a"), "the brace at byte 1"));
  CHECK(contains(refusal("{q}", ""), "data.answer_field"));
  CHECK(contains(refusal("{q}{a}", "a"), "take it out"));
  CHECK(sequence_fields("{b} {a} {b}", "z").names == std::vector<std::string>{"b", "a", "z"});
}

TEST_CASE("sequences: the answer and EOS are learnt, BOS and prompt are not") {
  const GreedyTokenizer tokenizer({": "});
  Record record;
  record.fields = {{"q", "ab"}, {"a", "cd"}};
  CHECK(encoded(tokenizer, record, kOwn) == "⊢ab: [c][d][⊣]");
  SequenceOptions all = kOwn;
  all.loss_on = LossOn::All;
  CHECK(encoded(tokenizer, record, all) == "[⊢][a][b][: ][c][d][⊣]");
  CHECK(encoded(tokenizer, text("ab"), {}) == "[⊢][a][b][⊣]");
}

TEST_CASE("sequences: ids are those of the whole text; a straddling token belongs to the answer") {
  const GreedyTokenizer tokenizer({" cd", ": "});
  Record record;
  record.fields = {{"q", "ab"}, {"a", "cd"}};
  SequenceOptions options = kOwn;
  options.prompt_template = "{q} ";
  CHECK(encoded(tokenizer, record, options) == "⊢ab[ cd][⊣]");
  const std::vector<TokenId> whole = tokenizer.encode("ab cd");
  const auto example = SequenceEncoder(tokenizer, nullptr, options).encode(record, "");
  CHECK(std::vector<TokenId>(example->ids.begin(), example->ids.end() - 1) == whole);
}

TEST_CASE(
    "sequences: long ones are cut on the right, without EOS; a prompt that fills all is left out") {
  const GreedyTokenizer tokenizer;
  Record record;
  record.fields = {{"q", "ab"}, {"a", "cdef"}};
  SequenceOptions options = kOwn;
  options.max_length = 7;
  CHECK(encoded(tokenizer, record, options) == "⊢ab: [c][d]");
  options.max_length = 10;
  CHECK(encoded(tokenizer, record, options) == "⊢ab: [c][d][e][f][⊣]");
  options.max_length = 5;
  CHECK(encoded(tokenizer, record, options) == "nothing");
  CHECK(encoded(tokenizer, text(""), {}) == "nothing");

  Dataset dataset;
  const SequenceEncoder encoder(tokenizer, nullptr, options);
  CHECK_FALSE(encoder.add(record, "", dataset));
  CHECK(dataset.empty());
}

TEST_CASE("sequences: ready ids, with and without labels") {
  const GreedyTokenizer tokenizer;
  Record record;
  record.input_ids = {5, 6, 7};
  CHECK(SequenceEncoder(tokenizer, nullptr, {}).encode(record, "")->labels ==
        std::vector<TokenId>{5, 6, 7});
  record.token_labels = {kNoLabel, kNoLabel, 7};
  CHECK(SequenceEncoder(tokenizer, nullptr, {}).encode(record, "")->labels == record.token_labels);
  record.token_labels = {5, kNoLabel, kNoLabel};  // the first token is never predicted
  CHECK_FALSE(SequenceEncoder(tokenizer, nullptr, {}).encode(record, "").has_value());
  record.token_labels = {kNoLabel, kNoLabel, 999};
  CHECK(contains(message_of<ConfigError>(
                     [&] { SequenceEncoder(tokenizer, nullptr, {}).encode(record, "f:1"); }),
                 "f:1: id 999 is outside the model's vocabulary of 259"));
}

TEST_CASE("sequences: conversations by the model's chat template") {
  const GreedyTokenizer tokenizer({"</>", "<assistant>"});
  Record record;
  record.messages = {{"user", "q"}, {"assistant", "a"}, {"user", "r"}, {"assistant", "b"}};
  const SequenceEncoder encoder(tokenizer, bracket_chat(), {.prompt_template = "chat"});
  CHECK(shown(tokenizer, *encoder.encode(record, "")) ==
        "<user>q</><assistant>[a][</>]<user>r</><assistant>[b][</>]");
  CHECK(shown(tokenizer, *encoder.encode(instruction("q", "a", "i"), "")) ==
        "<user>q\n\ni</><assistant>[a][</>]");
  const auto question = encoder.question(record, "");
  CHECK(question.prompt == "<user>q</><assistant>a</><user>r</><assistant>");
  CHECK(question.answer == "b");
  CHECK(tokenizer.decode(question.ids, false) == question.prompt);
}

TEST_CASE("sequences: questions for generation") {
  const GreedyTokenizer tokenizer;
  Record record;
  record.fields = {{"q", "ab"}, {"a", "cd"}};
  const SequenceEncoder encoder(tokenizer, nullptr, kOwn);
  const auto question = encoder.question(record, "");
  CHECK(question.prompt == "ab: ");
  CHECK(question.answer == "cd");
  CHECK(tokenizer.decode(question.ids, false) == "⊢ab: ");
  CHECK(contains(message_of<ConfigError>([&] { encoder.question(text("x"), "f:3"); }),
                 "f:3: has no question"));
}

TEST_CASE("sequences: conversations without a chat template are refused") {
  const GreedyTokenizer tokenizer;
  Record record;
  record.messages = {{"user", "q"}, {"assistant", "a"}};
  CHECK(message_of<ConfigError>([&] {
          SequenceEncoder(tokenizer, nullptr, {}).encode(record, "f:2");
        }).starts_with("f:2: the model has no chat template"));
  CHECK(contains(message_of<ConfigError>(
                     [&] { SequenceEncoder(tokenizer, nullptr, {.prompt_template = "chat"}); }),
                 "data.template: the model has no chat template"));
}
