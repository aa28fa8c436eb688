"""Chat templates rendered by transformers: the expected texts of tests/text/chat_template_test.cpp
and tests/text/jinja_test.cpp.

The templates are our own, in the manner of the families' ones. Regenerate with
    .venv/bin/python tests/oracles/chat_template_cases.py tests/text/chat_template_cases.json
"""

import json
import sys

from transformers.utils.chat_template_utils import (
    _compile_jinja_template,
    _render_with_assistant_indices,
)

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}

TEMPLATES = {
    "llama2": """{% if messages[0]['role'] == 'system' %}
{% set rest = messages[1:] %}
{% set preface = messages[0]['content'] %}
{% else %}
{% set rest = messages %}
{% set preface = false %}
{% endif %}
{% for message in rest %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('user and assistant must take turns') }}
{% endif %}
{% if loop.index0 == 0 and preface != false %}
{% set content = '<<SYS>>\\n' + preface + '\\n<</SYS>>\\n\\n' + message['content'] %}
{% else %}
{% set content = message['content'] %}
{% endif %}
{% if message['role'] == 'user' %}
{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}
{{ ' ' + content.strip() + ' ' + eos_token }}
{%- endif %}
{% endfor %}""",
    "llama3": """{{- bos_token }}
{%- set ns = namespace(system='') %}
{%- if messages[0].role == 'system' %}
    {%- set ns.system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none and tools is defined %}{{- "Tools: " ~ tools | tojson(indent=4) }}{% endif %}
{{- ns.system }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate: user, assistant') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}{% else %}{{ raise_exception('unknown role ' ~ message['role']) }}{% endif %}{% endfor %}""",
    "gemma": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}""",
    "qwen2.5": """{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n' }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "qwen3": """{%- set ns = namespace(last=messages|length - 1, searching=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}""",
    "phi3": """{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}""",
    "zephyr": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "generation": """{% macro open(role) -%}
<|{{ role }}|>
{% endmacro %}
{% for message in messages %}
{{ open(message.role) }}
{%- if message.role == 'assistant' %}{% generation %}{{ message.content }}<|end|>{% endgeneration %}

{% else %}{{ message.content }}<|end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ open('assistant') }}{% endif %}""",
}


def chat(*turns):
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[role], "content": content} for role, content in turns]


CONVERSATIONS = [
    chat(("u", "Hi")),
    chat(("u", "Hi"), ("a", "Hello!")),
    chat(("s", "You are terse."), ("u", "Who?"), ("a", "Me.")),
    chat(("s", "a"), ("u", "b"), ("a", "c"), ("u", "d"), ("a", "e"), ("u", "f")),
    chat(("u", "  spaces \n"), ("a", "\n kept?  "), ("u", "Grüße, 漢字 😀"), ("a", "“ok”")),
    chat(("u", "1"), ("u", "2")),
    chat(("a", "first"), ("u", "then")),
    chat(("u", "q"), ("a", "<think>\nhm\n</think>\n\n42"), ("u", "r"),
         ("a", "<think>\nso\n</think>\n\n43")),
    chat(("u", "same"), ("a", "same"), ("u", "same"), ("a", "same")),
    chat(("u", ""), ("a", "")),
    chat(("s", ""), ("u", "{{ x }} {% if %}"), ("a", "'\"\\n<b>&")),
]

# Snippets of Jinja with these variables; "!" marks what must fail.
VARIABLES = {
    "s": "Hello, World",
    "u": "äß 漢😀İ",
    "n": 7,
    "f": 2.5,
    "t": True,
    "none": None,
    "xs": [3, 1, 2],
    "names": ["b", "a", "C"],
    "d": {"k": "v", "a": 1, "items": [1]},
    "rows": [{"r": "x", "n": 1}, {"r": "y", "n": 2}, {"r": "x"}],
    "text": "  two\n lines \n",
}

SNIPPETS = [
    "{{ s }}|{{ n }}|{{ f }}|{{ t }}|{{ missing }}|{{ None }}",
    "{{ xs }} {{ d }} {{ ['a\"', \"b'\", 'c\\n\\t'] }}",
    "{{ 1 + 2 * 3 - 4 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }} {{ -2 ** 2 }}",
    "{{ 3.0 }} {{ 0.0001 * 1 }} {{ 100000.0 * 10000000000.0 }} {{ 1 / 3 }} {{ 5 // 2.0 }} {{ 5.5 % 2 }}",
    "{{ 'a' ~ 1 ~ none ~ true }} {{ 'ab' * 3 }} {{ [1] + [2] }} {{ [0] * 3 }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ 'a' != 'b' }} {{ [1, 2] == [1, 2] }}",
    "{{ 'o' in s }} {{ 'z' not in s }} {{ 2 in xs }} {{ 'k' in d }} {{ 'a' in missing }}",
    "{{ not t or n == 7 and false }} {{ none or 'x' }} {{ n and s }}",
    "{{ 'yes' if n > 5 else 'no' }} {{ 'gone' if false }}|{{ 1 if 0 else 2 if 0 else 3 }}",
    "{{ s[0] }}{{ s[-1] }} {{ s[1:4] }} {{ s[::-1] }} {{ s[-5:] }} {{ s[:100] }} {{ xs[1:] }} {{ xs[::2] }} {{ xs[5:1:-1] }} {{ xs[-1:0:-1] }}",
    "{{ u[1] }} {{ u[3:] }} {{ u | length }} {{ u | upper }} {{ u | lower }} {{ u | capitalize }} {{ u[::-1] }}",
    "{{ d.k }} {{ d['a'] }} {{ d.nope }} {{ d.get('nope') }} {{ d.get('nope', 5) }} {{ d['items'] }}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %} {{ d.keys() | list }} {{ d | length }}",
    "{% for x in xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('o', 'e') }} {% endfor %}",
    "{% for x in xs if x > 1 %}{{ x }}/{{ loop.length }} {% else %}none{% endfor %}",
    "{% for x in [] %}{% else %}empty{% endfor %}{% for x in missing %}{% else %} missing{% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% set x = 1 %}{% for i in xs %}{% set x = i %}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}",
    "{% set ns = namespace(a=1, b='x') %}{% for i in xs %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set q %}body {{ a }}{% endset %}{{ q | upper }}",
    "{% macro m(x, y='d') %}<{{ x }}{{ y }}>{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(y=5, x=4) }}{{ m() }}",
    "{% macro outer(x) %}{{ inner(x) }}{{ s }}{% endmacro %}{% macro inner(x) %}[{{ x }}]{% endmacro %}{{ outer(3) }}",
    "{{ text | trim }}|{{ text.strip() }}|{{ text.rstrip() }}|{{ text.lstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ '--a-'.lstrip('-') }}",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a\nb\r\nc'.splitlines() }} {{ 'a b c'.split(None, 1) }} {{ (1,) | list }}",
    "{{ s.startswith('He') }} {{ s.endswith(('x', 'd')) }} {{ s.find('o') }} {{ s.rfind('o') }} {{ s.count('l') }} {{ s.replace('l', 'L') }} {{ s.replace('l', '', 1) }} {{ 'ab'.replace('', '-') }}",
    "{{ s.upper() }} {{ s.lower() }} {{ s.title() }} {{ 'abC'.capitalize() }} {{ 'a'.isalpha() }} {{ '12'.isdigit() }} {{ ' '.isspace() }} {{ 'Ab'.isupper() }} {{ 'a-b c'.title() }}",
    "{{ '-'.join(names) }} {{ names | join(', ') }} {{ rows | join('-', attribute='r') }} {{ 'abc' | join('.') }}",
    "{{ xs | sort }} {{ names | sort }} {{ xs | sort(reverse=true) }} {{ rows[:2] | sort(attribute='n', reverse=true) | map(attribute='r') | list }} {{ xs | max }} {{ xs | min }}",
    "{{ xs | first }} {{ xs | last }} {{ [] | first }} {{ xs | reverse | list }} {{ 'abc' | reverse }} {{ [1, 1, 2] | unique | list }}",
    "{{ rows | selectattr('r', 'equalto', 'x') | list | length }} {{ rows | rejectattr('n') | list }} {{ rows | selectattr('n', 'defined') | map(attribute='n') | list }} {{ xs | select('odd') | list }} {{ xs | reject('gt', 1) | list }}",
    "{{ rows | map(attribute='n', default=0) | list }} {{ names | map('upper') | list }} {{ xs | map('string') | join }}",
    "{{ missing | default('d') }} {{ '' | default('d') }} {{ '' | default('d', true) }} {{ none | d('x') }} {{ none | default('x', boolean=true) }}",
    "{{ d | tojson }} {{ s | tojson }} {{ u | tojson }} {{ [1, 2.0, none, true] | tojson }} {{ '<a>&\"\\n' | tojson }}",
    "{{ d | tojson(indent=2) }} {{ u | tojson(ensure_ascii=true) }} {{ d | tojson(sort_keys=true, separators=(',', ':')) }} {{ [] | tojson(indent=1) }} {{ [[1], {}] | tojson(indent=1) }}",
    "{{ s is string }} {{ n is number }} {{ n is integer }} {{ f is float }} {{ t is boolean }} {{ none is none }} {{ missing is defined }} {{ missing is undefined }} {{ d is mapping }} {{ xs is iterable }} {{ xs is sequence }} {{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is not none }}",
    "{{ n is eq 7 }} {{ n is gt 3 }} {{ 'a' is in 'abc' }} {{ t is true }} {{ n is true }} {{ s is lower }} {{ 'A' is upper }} {{ n is sameas(7) if false else 'k' }} {{ none is string }} {{ namespace is callable }}",
    "{{ '5' | int + 1 }} {{ '2.5' | float }} {{ 'x' | int }} {{ 3.9 | int }} {{ -3 | abs }} {{ 5 | string ~ 'x' }} {{ true | int }}",
    "{{ 'a\nb\n\nc' | indent(2) }}|{{ 'a\nb' | indent(2, true) }} {{ d | items | map('first') | list }} {{ d | dictsort | map('last') | join(',') }}",
    "{% raw %}{{ not }} {% if %}{% endraw %}{# comment #}x",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
    "a\n  {%- if true -%}\n  b\n  {%- endif %}\nc\n  {%+ if true %}d{% endif +%}\ne",
    "a  {{- 'b' -}}  c\n  {# gone #}\nd  {#- gone -#}  e",
    "  {{ 1 }}\n{% set x = 2 %}\n\n  {% set y = 3 %} z {% set w = 1 %}\nend\n\n",
    "{{ {'a': {'b': [1, 2]}}.a.b[1] }} {{ {'a': 1}['a'] }} {{ (1, 2)[0] }} {{ 'a' 'b' }} {{ '\\u00e9\\x41\\n\\'' }}",
    "{{ range(3) | list }} {{ range(1, 4) | list }} {{ range(5, 0, -2) | list }} {{ dict(a=1).a }}",
    "{{ strftime_now('%') if false else 'now' }} {{ 1_000 }} {{ 'x'.removeprefix('x') }} {{ 'abc'.removesuffix('c') }} {{ 'a'.index('a') }} {{ xs.index(2) }} {{ xs.count(1) }}",
    "{{ ('a' if n is defined and n else 'b') | upper }} {{ -n | abs }} {{ (n + 1) | string | length }} {{ not n is none }} {{ n is not string and n > 3 }}",
    "!{{ missing.x }}",
    "!{{ missing() }}",
    "!{{ missing + 1 }}",
    "!{{ 'a' + 1 }}",
    "!{{ 1 < 'a' }}",
    "!{{ xs.append(1) }}",
    "!{{ s.nope() }}",
    "!{{ 1 // 0 }}",
    "!{{ raise_exception('no ' ~ n) }}",
    "!{{ none | length }}",
    "!{{ xs | nope }}",
    "!{{ n is nope }}",
    "!{% if %}{% endif %}",
    "!{% for x in xs %}",
    "!{{ (1 }}",
    "!{{ 'open }}",
    "!{% for x in n %}{% endfor %}",
    "!{% set d.k = 1 %}",
    "!{{ 1 in s }}",
    "!{{ range(1000000) }}",
]


def rendered(template, **variables):
    try:
        text, spans = _render_with_assistant_indices(
            _compile_jinja_template(template), **variables
        )
        return text, [list(span) for span in spans]
    except Exception as error:  # whatever Jinja or Python says: only that it fails counts
        return None, str(error)


def chat_cases():
    for name, template in TEMPLATES.items():
        outcomes = []
        for messages in CONVERSATIONS:
            texts = []
            for prompt in (False, True):
                text, spans = rendered(template, messages=messages, tools=None, documents=None,
                                       add_generation_prompt=prompt, **TOKENS)
                texts.append(text)
            outcomes.append(texts)
        yield {"name": name, "template": template, "texts": outcomes}


def generation_spans():
    for messages in CONVERSATIONS:
        text, spans = rendered(TEMPLATES["generation"], messages=messages, tools=None,
                               documents=None, add_generation_prompt=False, **TOKENS)
        yield [[len(text[:place].encode()) for place in span] for span in spans]  # in bytes


def snippet_cases():
    for snippet in SNIPPETS:
        source = snippet.removeprefix("!")
        text, problem = rendered(source, messages=[], tools=None, documents=None,
                                 add_generation_prompt=False, **VARIABLES)
        if snippet.startswith("!") != (text is None):
            print(f"{snippet!r}: {text!r} {problem}", file=sys.stderr)
        yield {"template": source, "text": text}


def main():
    cases = {
        "tokens": TOKENS,
        "conversations": CONVERSATIONS,
        "chats": list(chat_cases()),
        "generation_spans": list(generation_spans()),
        "variables": VARIABLES,
        "snippets": list(snippet_cases()),
    }
    with open(sys.argv[1], "w") as file:
        json.dump(cases, file, ensure_ascii=False, indent=0)
        file.write("\n")


if __name__ == "__main__":
    main()
