// Fuzz target: a chat template. Whatever it says, it renders or is refused.

#include <string_view>

#include "core/bytes.h"
#include "core/error.h"
#include "tests/fuzz/fuzz_target.h"
#include "text/chat_template.h"

using namespace drystone;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<text::Message> kMessages = {
      {"system", "s"}, {"user", "é"}, {"assistant", " a\n"}, {"user", ""}};
  try {
    const text::ChatTemplate chat(core::as_text({data, size}), {{"bos_token", "<s>"}});
    chat.render(kMessages, true);
    chat.render_spans(kMessages);
  } catch (const core::ConfigError&) {
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  static constexpr std::string_view kTemplates[] = {
      "{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}{% if m.role is not none and "
      "(m['content'] | trim | length > 0 or loop.last) %}{% set ns.n = ns.n + loop.index0 %}"
      "{{ m.role ~ ns.n }}{% else %}{% continue %}{% endif %}{% endfor %}",
      "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
      "{{ m.content }}{% endgeneration %}{% else %}<{{ m.role }}>{{ m.content | tojson(indent=2) }}"
      "{% endif %}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
      "{% macro show(x, y='d') -%} {{ x | replace('a', y) }}{{ show(y) if x is string and y != 'd' "
      "}}"
      "{%- endmacro %}{{ show(messages[1].content[1:], 3) }}{{ range(1, 9, 3) | join(',') }}"
      "{{ {'k': [1, 2.5, none]} }}{# c #}{% raw %}{{{% endraw %}{{ 7 // 2 ** 3 % 5 - -1 }}",
      "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }}"
      "{{ messages | sort(attribute='content') | first }}{{ 'a,b'.split(',')[-1].upper() }}"
      "{% set a, b = 1, 'x' * 3 %}{{ a }}{{ b.startswith(('x', 'y')) }}{{ dict(q=1).items() }}"};
  const std::string_view text = kTemplates[seed % std::size(kTemplates)];
  return {core::Bytes(text.begin(), text.end())};
}

}  // namespace drystone::test
