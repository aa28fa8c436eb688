#include "text/jinja.h"

#include <ctime>
#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/seed.h"
#include "tests/text/files.h"

using namespace drystone::text;
using drystone::core::ConfigError;
using drystone::test::contains;
using drystone::test::message_of;
using jinja::Value;
using nlohmann::ordered_json;

namespace {

/// What transformers makes of our templates: tests/oracles/chat_template_cases.py.
ordered_json cases() {
  std::ifstream stream(DRYSTONE_SOURCE_DIR "/tests/text/chat_template_cases.json");
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

TEST_CASE("jinja: single steps that read, compare or search much are paid for") {
  const std::string big = "{% set s = 'a' * 16000000 %}{% set u = 'é' * 8000000 %}";
  const std::string twin = "{% set t = 'a' * 15999999 + 'b' %}{% set r = 'a' * 15999999 + 'c' %}";
  const auto looped = [](const std::string& body) {
    return "{% for i in range(100000) %}" + body + "{% endfor %}";
  };
  std::vector<std::string> sources;
  for (const char* const body :
       {"{% if u | length %}{% endif %}", "{% if (s | trim) %}{% endif %}",
        "{% if s is upper %}{% endif %}", "{% if u[-1] %}{% endif %}", "{% if u[1:1] %}{% endif %}",
        "{% if 'b' in s %}{% endif %}", "{% if s.find('b') %}{% endif %}",
        "{% if s.count('b') %}{% endif %}", "{% if s.isalpha() %}{% endif %}",
        "{% if u.startswith([u, u]) %}{% endif %}", "{% if u | int %}{% endif %}",
        "{% if [1] | map(attribute=s) %}{% endif %}",
        "{% if s | default(u) is eq u %}{% endif %}"}) {
    sources.push_back(big + looped(body));
  }
  for (const char* const body :
       {"{% if t == r %}{% endif %}", "{% if t < r %}{% endif %}",
        "{% if [t, r] | max %}{% endif %}", "{% if [t, r, t, r] | sort %}{% endif %}",
        "{% if [t, r] | unique %}{% endif %}", "{% if t in [r, r] %}{% endif %}",
        "{% if t.startswith((r, r)) %}{% endif %}", "{% if [r, r].count(t) %}{% endif %}"}) {
    sources.push_back(twin + looped(body));
  }
  // Quadratic in one step.
  const std::string halves = "{% set s = 'a' * 12000000 %}{% set n = 'a' * 6000000 + 'b' %}";
  for (const char* const body :
       {"{{ n in s }}", "{{ s.rfind(n) }}", "{{ s.replace(n, '') | length }}",
        "{{ s.split(n) | length }}", "{{ s.strip(n) | length }}",
        "{{ s.rsplit('b' + n) | length }}", "{{ s.count(n) }}"}) {
    const std::clock_t begin = std::clock();
    CHECK_NOTHROW(render(halves + body));
    CHECK(std::clock() - begin < 20 * CLOCKS_PER_SEC);
  }
  std::string names;
  std::string members = "{% set d = {";
  for (int i = 0; i < 20000; ++i) {
    names += "{% set a" + std::to_string(i) + " = 1 %}";
    members += "'a" + std::to_string(i) + "': 1, ";
  }
  sources.push_back(names + looped("{% if a19999 %}{% endif %}"));
  sources.push_back(names + names);
  sources.push_back(members + "} %}" + looped("{% if d.a19999 %}{% endif %}"));
  sources.push_back(members + "} %}{% set e = dict(d) %}{{ d == e }}");
  for (const std::string& source : sources) {
    CAPTURE(source.substr(source.size() - std::min<std::size_t>(source.size(), 80)));
    const std::clock_t begin = std::clock();
    const std::string message = refusal(source);
    CHECK_MESSAGE((contains(message, "too m") || contains(message, "too large")), message);
    CHECK(std::clock() - begin < 30 * CLOCKS_PER_SEC);
  }
}

TEST_CASE("jinja: lines and parts are paid for before they take memory") {
  CHECK(contains(refusal("{{ ('\\n' * 16000000) | indent }}"), "too much"));
  CHECK(contains(refusal("{{ ('\\n' * 16000000).splitlines() }}"), "too much"));
  CHECK(contains(refusal("{{ [1] | map(attribute='.' * 16000000) | list }}"), "too much"));
}

TEST_CASE("jinja: values nested a hundred thousand deep go away without a stack") {
  for (const char* const nested : {"[ns.a]", "{'x': ns.a}", "[{'x': [ns.a]}]"}) {
    CHECK(render("{% set ns = namespace(a=1) %}{% for i in range(100000) %}{% set ns.a = " +
                 std::string(nested) + " %}{% endfor %}done") == "done");
  }
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
