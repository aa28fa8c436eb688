#include "data/jinja.h"

#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/seed.h"
#include "tests/data/files.h"

using namespace drystone::data;
using drystone::core::ConfigError;
using drystone::test::contains;
using drystone::test::message_of;
using jinja::Value;
using nlohmann::ordered_json;

namespace {

/// What transformers makes of our templates: tests/oracles/chat_template_cases.py.
ordered_json cases() {
  std::ifstream stream(DRYSTONE_SOURCE_DIR "/tests/data/chat_template_cases.json");
  return ordered_json::parse(stream);
}

Value to_value(const ordered_json& json) {
  if (json.is_boolean()) return Value(json.get<bool>());
  if (json.is_number_integer()) return Value(json.get<std::int64_t>());
  if (json.is_number()) return Value(json.get<double>());
  if (json.is_string()) return Value(json.get<std::string>());
  if (json.is_array()) {
    jinja::List list;
    for (const auto& item : json) list.push_back(to_value(item));
    return Value(std::move(list));
  }
  if (!json.is_object()) return Value::none();
  jinja::Dict dict;
  for (const auto& [name, value] : json.items()) dict.set(name, to_value(value));
  return Value(std::move(dict));
}

std::string render(const std::string& source, const jinja::Dict& variables = {}) {
  return jinja::Template(source).render(variables, 0).text;
}

std::string refusal(const std::string& source) {
  return message_of<ConfigError>([&] { render(source); });
}

}  // namespace

TEST_CASE("jinja: snippets render as in transformers, and fail where they fail there") {
  const ordered_json all = cases();
  const Value variables = to_value(all.at("variables"));
  int compared = 0;
  for (const auto& snippet : all.at("snippets")) {
    const auto source = snippet.at("template").get<std::string>();
    CAPTURE(source);
    if (snippet.at("text").is_null()) {
      CHECK_THROWS_AS(render(source, *variables.dict()), ConfigError);
    } else {
      std::string text;
      CHECK_NOTHROW(text = render(source, *variables.dict()));
      CHECK(text == snippet.at("text").get<std::string>());
    }
    ++compared;
  }
  MESSAGE(compared << " snippets compared");
  CHECK(compared > 60);
}

TEST_CASE("jinja: errors name the line") {
  CHECK(refusal("a\n\n{{ x.y }}") == "line 3: \"x\" is undefined");
  CHECK(refusal("{% if a %}\n{{ b }").starts_with("line 2: "));
  CHECK(contains(refusal("\n{% include 'x' %}"), "line 2: tag \"include\" is not supported"));
  CHECK(refusal("{{ raise_exception('take turns') }}") == "line 1: take turns");
  CHECK(contains(refusal("{{ 1 | frobnicate }}"), "filter \"frobnicate\""));
  CHECK(contains(refusal("{% for x in [1] %}"), "add {% endfor %}"));
  CHECK(contains(refusal("{{ 'a' "), "never closed"));
}

TEST_CASE("jinja: what a template may cost is bounded") {
  CHECK(contains(refusal("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}"
                         "{% endfor %}"),
                 "too much"));
  CHECK(contains(refusal("{% set all = range(4000) %}{% for i in all %}{% for j in all %}"
                         "{% if j %}{% endif %}{% endfor %}{% endfor %}"),
                 "too m"));
  CHECK(contains(refusal("{{ 'aaaaaaaaaaaaaaaa' * 100000000 }}"), "too often"));
  CHECK(contains(refusal("{{ ('a' * 10000000) * 10000000 }}"), "too much"));
  CHECK(contains(refusal("{% set ns = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(64) %}"
                         "{% set ns.s = ns.s + ns.s %}{% endfor %}"),
                 "too much"));
  const std::string shared =
      "{% set a = ['x' * 99] * 99 %}{% set b = [a] * 999 %}"
      "{% set c = [b] * 999 %}{% set d = [c] * 999 %}";
  CHECK(contains(refusal(shared + "{{ d }}"), "too much text"));
  CHECK(contains(refusal(shared + "{{ d | tojson }}"), "too much text"));
  CHECK(contains(refusal(shared + "{{ d == [c] * 999 }}"), "too large"));
  CHECK(contains(refusal("{{ ('a' * 9000000).replace('a', 'bb') }}"), "too much"));
  CHECK(contains(refusal("{{ ('a' * 9000000).split('a') }}"), "too much"));
  CHECK(contains(refusal("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "too deep"));
  CHECK(contains(refusal("{{ " + std::string(500, '(') + "1" + std::string(500, ')') + "}}"),
                 "too deep"));
  CHECK(
      contains(refusal("{{ " + std::string(500, '[') + std::string(500, ']') + "}}"), "too deep"));
  CHECK(contains(refusal("{{ " + std::string(5000, '-') + "1 }}"), "too deep"));
  std::string sum = "{{ 1";
  std::string nest;
  for (int i = 0; i < 5000; ++i) {
    sum += "+1";
    nest += "{% if 1 %}";
  }
  CHECK(contains(refusal(sum + " }}"), "too deep"));
  CHECK(contains(refusal(nest), "too deep"));
  CHECK(contains(refusal("{% set ns = namespace(a=1) %}{% set ns.a = [ns] %}{{ [ns] | tojson }}"),
                 "JSON"));
  CHECK(
      contains(refusal("{% set ns = namespace(a=1) %}{% set ns.a = [ns] %}{{ ns }}"), "too deep"));
}

TEST_CASE("jinja: strftime_now uses the time that it is given") {
  const jinja::Template date("{{ strftime_now('%Y') }}");
  CHECK(date.render({}, 1'500'000'000).text == "2017");
}

TEST_CASE("jinja: mutated templates render or throw a ConfigError") {
  const ordered_json all = cases();
  const Value variables = to_value(all.at("variables"));
  drystone::core::SplitMix64 random(1);
  for (const auto& snippet : all.at("snippets")) {
    for (int round = 0; round < 40; ++round) {
      std::string source = snippet.at("template").get<std::string>();
      const std::size_t at = random.below(source.size());
      if (random.below(2) == 0) {
        source.erase(at, 1 + random.below(6));
      } else {
        source[at] = "{}%-'\"()[]|. 1an"[random.below(16)];
      }
      CAPTURE(source);
      try {
        render(source, *variables.dict());
      } catch (const ConfigError&) {
      }
    }
  }
}
