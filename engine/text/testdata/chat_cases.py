"""Chat templates in the manner of the well-known families, with the chats to render, and snippets for single
features."""

from pathlib import Path

NASTY = "<b>\"quotes\" & 'apostrophes'</b>\n\ttabs \\ backslash {{ not.a.template }} {% nor this %}"
PLAIN = [{"role": "user", "content": "Who keeps the lighthouse?"}]
DIALOGUE = PLAIN + [{"role": "assistant", "content": "  An old man and his cat.  "},
                    {"role": "user", "content": "And the lamp?\n"}]
WITH_SYSTEM = [{"role": "system", "content": "Answer in one sentence. "}] + DIALOGUE
UNICODE = [{"role": "user", "content": "Grüße 😀 \u2028 你好 \x1c"}, {"role": "assistant", "content": "مرحبا\r\n"},
           {"role": "user", "content": NASTY}]
TWO_USERS = PLAIN + PLAIN
EMPTY = [{"role": "system", "content": ""}, {"role": "user", "content": ""}]
TOOLISH = DIALOGUE + [{"role": "assistant", "content": "I look.</think>\n\nIt is lit."},
                      {"role": "tool", "content": "{\"lit\": true}"},
                      {"role": "user", "content": "Thanks<|im_end|>"}]
ALL = [PLAIN, DIALOGUE, WITH_SYSTEM, UNICODE, TWO_USERS, EMPTY, TOOLISH]

LLAMA2 = """{% if messages[0]['role'] == 'system' %}\
{% set turns = messages[1:] %}{% set system = messages[0]['content'] %}
{% else %}{% set turns = messages %}{% set system = false %}{% endif %}
{% for turn in turns %}
    {% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Turns must go user, assistant, user, assistant, and so on; turn ' ~ loop.index ~ ' is by ' \
~ turn.role) }}
    {% endif %}
    {% if loop.index0 == 0 and system is not false %}
        {% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + turn['content'] %}
    {% else %}
        {% set content = turn['content'] %}
    {% endif %}
    {% if turn['role'] == 'user' %}
        {{ bos_token + '[INST] ' + content | trim + ' [/INST]' }}
    {% elif turn['role'] == 'assistant' %}
        {{ ' ' + content.strip() + ' ' + eos_token }}
    {% endif %}
{% endfor %}
"""

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{#- A system header always comes, with the date. #}
{%- set rest = messages %}
{%- set system = '' %}
{%- if messages[0].role == "system" %}
    {%- set system = messages[0].content | trim %}
    {%- set rest = messages[1:] %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: tools\\n" }}{% endif %}
{{- "Today is " ~ date_string ~ ".\\n\\n" ~ system ~ "<|eot_id|>" }}
{%- for message in rest %}
    {%- if message.role not in ["user", "assistant", "tool"] %}{% continue %}{% endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim \
+ '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

CHATML = """{% for message in messages %}
{% if loop.first and message.role != 'system' %}
<|im_start|>system
You keep a lighthouse.<|im_end|>
{% endif %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("User and assistant messages must alternate.") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool" %}
        {{- "[TOOL_RESULTS] " ~ {"content": message.content, "count": user_messages|length}|tojson \
~ "[/TOOL_RESULTS]" }}
    {%- else %}
        {{- raise_exception("Only user, assistant and tool roles are known, not " + message["role"] + "!") }}
    {%- endif %}
{%- endfor %}
"""

ZEPHYR = """{% for message in messages %}
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
{% endfor %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
<start_of_turn>{{ role }}
{{ message['content'] | trim }}<end_of_turn>
{% endfor -%}
{%- if add_generation_prompt -%}
<start_of_turn>model
{%- endif -%}
"""

REASONER = """{%- macro block(title, body, closed=true) -%}
[{{ title|upper }}]{{ body }}{% if closed %}[/{{ title|upper }}]{% endif %}
{%- endmacro -%}
{%- set ns = namespace(last_user=-1, seen=[], text='') -%}
{%- for message in messages -%}
  {%- if message.role == 'user' %}{% set ns.last_user = loop.index0 %}{% endif -%}
  {%- set ns.seen = ns.seen + [message.role] -%}
{%- endfor -%}
{%- for message in messages %}
  {%- if message.content is string %}{% set content = message.content %}{% else %}{% set content = '' %}{% endif %}
  {%- if message.role == 'assistant' and '</think>' in content %}
    {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
  {%- endif %}
  {%- if loop.index0 == ns.last_user %}
    {{- block('last', content.strip()) }}
  {%- elif message.role == 'tool' %}
    {{- block(message.role, message | tojson(indent=2)) }}
  {%- else %}
    {{- block(message.role, content.rstrip(), closed=loop.previtem is defined) }}
  {%- endif %}
{%- endfor %}
{{- '\\n' ~ ns.seen[::-1] | join(',') ~ ' ' ~ ns.last_user ~ ' ' ~ messages[-1].role[:4].title() }}
{%- if add_generation_prompt %}{{ '\\n' }}{% generation %}{{- '[ASSISTANT]<think>\\n' -}}{% endgeneration %}{% endif %}
"""

QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\ntools: ' + tools|length|string }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and \
not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in message.content %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
            {%- set reasoning = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or (not loop.last and reasoning)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' \
+ content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- message.content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""

OLD_LINES = ("{% for m in messages %}\r\n{{ m.role }}: {{ m.content }}\r\n{% endfor %}\r"
             "{{ eos_token }}{{ pad_token }}{{ image_token }}\r\n\r\n")

BOS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
CHATS = {
    "llama2": {"jinja": LLAMA2, "config": BOS, "messages": ALL, "in_config": "string"},
    "llama3": {"jinja": LLAMA3, "config": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
               "messages": ALL},
    "chatml": {"jinja": CHATML, "config": {"eos_token": "<|im_end|>"}, "messages": ALL, "in_config": "list"},
    "mistral": {"jinja": MISTRAL, "config": BOS, "messages": ALL},
    "zephyr": {"jinja": ZEPHYR,
               "config": {"eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": False,
                                        "rstrip": False, "single_word": False, "special": True}},
               "messages": ALL},
    "gemma": {"jinja": GEMMA, "config": {"bos_token": "<bos>", "eos_token": "<eos>"}, "messages": ALL},
    "reasoner": {"jinja": REASONER, "config": BOS, "messages": ALL},
    "qwen": {"jinja": QWEN, "config": {"eos_token": "<|im_end|>", "bos_token": None}, "messages": ALL},
    "old_lines": {"jinja": OLD_LINES, "config": {"eos_token": "</s>", "pad_token": "<pad>", "image_token": "<img>"},
                  "messages": [DIALOGUE]},
}

SNIPPET_MESSAGES = [{"role": "user", "content": " Ahoy, the Ship's \x1fname is\tDawn\u3000\n"},
                    {"role": "assistant", "content": "aye; aye"}]

# Each is a template; `messages` are the two above.
SNIPPETS = [
    "{{ true }} {{ false }} {{ none }} {{ True and None }}",
    "{{ 1 }} {{ 1.0 }} {{ 7 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }}",
    "{{ 0.1 + 0.2 }} {{ 100000000000000000000 }}",
    "{{ [1, 'a', true, none, 2.5] }} {{ {'a': 'b', 'c': [1]} }} {{ (1, 2) }} {{ ('a',) }}",
    "{{ messages[1:] }} {{ ['\\t\\x01é😀', \"it's\"] }}", "{{ messages[1] }}",
    "{{ messages[1].keys() | list }} {{ messages[1].values() | list }} {{ messages[1].items() | list }}",
    "{% for k, v in messages[1].items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in messages[1] | items %}{{ k }}={{ v }};{% endfor %}",
    ("{{ messages[1].get('role') }} {{ messages[1].get('x') }} {{ messages[1].get('x', 'y') }} {{ messages[1]['x'] }} "
     "{{ messages[1].x }}"),
    "{{ messages[1].x.y }}", "{{ nothing.y }}",
    "{{ nothing }}|{{ nothing is defined }}|{{ nothing | default('d') }}|{{ '' | default('d', true) }}",
    "{{ 'a' + nothing }}", "{{ 'a' + 1 }}", "{{ 'a' ~ 1 ~ none ~ true ~ 1.5 }}", "{{ 'ab' * 3 }}", "{{ [1] + [2] }}",
    "{{ 'a' 'b' }}",
    "{{ '\\u00e9\\n\\t\\\\ \\x41 \\' \\\"' }}", "{{ '\\q' }}",
    "{{ messages[0].content | trim }}|", "{{ messages[0].content.strip() }}|",
    "{{ messages[0].content.lstrip() }}|{{ messages[0].content.rstrip() }}|",
    "{{ messages[0].content.split() }}", "{{ messages[0].content.split(' ') | tojson }}",
    "{{ messages[0].content.split(' ', 2) | tojson }}", "{{ 'a,b,c'.split(',', maxsplit=1) }}",
    "{{ 'a,b,c'.rsplit(',', 1) }} {{ ' a  b c '.rsplit(None, 1) }} {{ ' a  b c '.split(None, 1) }}",
    "{{ 'a'.split('') }}", "{{ ''.split() }} {{ ''.split(',') }}",
    "{{ 'a\\nb\\r\\nc\\u2028d\\x0b\\n\\n'.splitlines() }} {{ 'a\\nb\\n'.splitlines(true) }}",
    "{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'x'.partition('=') }}",
    "{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.py'.removesuffix('.py') }}",
    "{{ 'xxabcxx'.strip('x') }} {{ 'abcab'.lstrip('ab') }} {{ 'abcab'.rstrip('ab') }} {{ 'xx' | trim('x') }}",
    ("{{ 'Ab'.upper() }} {{ 'Ab'.lower() }} {{ \"the ship's name\".title() }} {{ 'hELLO wORLD'.capitalize() }} "
     "{{ 'straße'.upper() }}"),
    "{{ 'Ab' | upper }} {{ 'Ab' | lower }} {{ \"the ship's name\" | title }} {{ 'hELLO' | capitalize }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.startswith('') }}",
    "{{ 'abcabc'.find('c') }} {{ 'abc'.find('x') }} {{ 'abcabc'.rfind('c') }} {{ 'aXbX'.count('X') }}",
    "{{ 'aXbX'.replace('X', '-') }} {{ 'aXbX'.replace('X', '-', 1) }} {{ 'aXb' | replace('X', '-') }}",
    "{{ '-'.join(['a', 'b']) }} {{ ['a', 'b'] | join('-') }} {{ [1, none, true] | join(',') }}",
    "{{ 'a' in 'abc' }} {{ 'x' not in 'abc' }} {{ 'role' in messages[0] }} {{ 2 in [1, 2] }} {{ 'a' in ['ab'] }}",
    "{{ 'abc'[0] }} {{ 'abc'[-1] }} {{ 'abc'[1:] }} {{ 'abc'[::-1] }} {{ 'äöü'[1] }}",
    "{{ [1, 2, 3][-1] }} {{ [1, 2, 3][1:] }} {{ [1, 2, 3][::-1] }} {{ [1, 2, 3][:-1] }} {{ [1, 2, 3][5:] }}",
    "{{ [1][3] }}", "{{ messages[5] }}", "{{ messages[5].role }}",
    "{{ 'abc' | length }} {{ 'äö😀' | length }} {{ messages | length }} {{ messages | count }}",
    ("{{ messages is sequence }} {{ 'a' is sequence }} {{ messages[0] is sequence }} {{ 1 is sequence }} "
     "{{ none is sequence }}"),
    ("{{ messages is iterable }} {{ 'a' is iterable }} {{ messages[0] is iterable }} {{ 1 is iterable }} "
     "{{ none is iterable }}"),
    ("{{ messages is mapping }} {{ 'a' is mapping }} {{ messages[0] is mapping }} {{ 'a' is string }} "
     "{{ 1 is number }} {{ 1.5 is float }} {{ true is boolean }} {{ 1 is integer }} {{ true is integer }}"),
    ("{{ none is none }} {{ tools is none }} {{ tools is defined }} {{ documents is none }} {{ 1 is odd }} "
     "{{ 4 is divisibleby(2) }} {{ 'a' is eq('a') }} {{ true is true }} {{ 1 is true }}"),
    ("{{ messages | map(attribute='role') | join(',') }} "
     "{{ messages | map(attribute='content') | map('length') | list }}"),
    ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }} "
     "{{ messages | rejectattr('role', 'eq', 'user') | map(attribute='role') | first }}"),
    "{{ messages | first | tojson }} {{ messages | last | tojson }}", "{{ messages | tojson }}",
    "{{ messages | tojson(indent=2) }}", "{{ messages[1] | tojson(indent=4, sort_keys=true) }}",
    ("{{ messages[1] | tojson(separators=(',', ':')) }} {{ 'é😀' | tojson(ensure_ascii=true) }} "
     "{{ 'é😀<&>\\'\\x7f' | tojson }}"),
    ("{{ [1, 1.0, 1e20, 1.5e-7, true, none, 'a\\\"b'] | tojson }} {{ {} | tojson }} {{ [] | tojson(indent=2) }} "
     "{{ {'a': {}} | tojson(indent=1) }}"), "{{ {1: 2, none: 3, true: 4} | tojson }}",
    "{{ nothing | tojson }}", "{{ messages | tojson | length }}",
    "{{ messages[0:1] | tojson }} {{ (messages + messages) | tojson }} {{ messages[::-1] | tojson(indent=1) }}",
    "{{ ([1] * 3) | tojson }} {{ {'a': [1, 2][1:], 'b': [] + []} | tojson }} {{ (1, 2)[1:] | tojson }}",
    "{{ [nothing, 1.5, none, 'a'] | join('|') }} {{ [] | join('x') }} {{ nothing | join }} {{ 'abc' | join('-') }}",
    ("{{ messages | join(', ', attribute='role') }} {{ messages | join(attribute='role') }} "
     "{{ ['a', 'b'] | join(d='+') }}"),
    ("{{ 'aaa'.replace('a', 'b', 2) }} {{ 'ab'.replace('', '-') }} {{ '{0} {1:>5} {0}'.format('x', 2) }} "
     "{{ '+'.join('abc') }}"),
    "{{ '&<>\"\\'é' | e }} {{ '' | e }} {{ 5 | e }} {{ [1, '<'] | e }}",
    "{{ [1] | string }} {{ {'a': none} | string }}", "{{ '<a href=\"x\">' }} {{ '<a>' | safe }}",
    "{{ '<a href=\"x\">' | e }}",
    ("{% for m in messages %}{{ loop.index }}/{{ loop.length }} {{ loop.first }} {{ loop.last }} {{ loop.revindex }} "
     "{{ loop.revindex0 }} {{ loop.cycle('a', 'b') }};{% endfor %}"),
    ("{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined }}>"
     "{{ loop.nextitem.role if loop.nextitem is defined else 'end' }};{% endfor %}"),
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.role }}{% else %}none{% endfor %}",
    "{% for m in [] %}x{% else %}empty{% endfor %}",
    ("{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}"
     "{{ i }}{% endfor %}"),
    "{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }},{% endfor %}",
    "{{ range(3) | list }} {{ range(1, 10, 3) | list }} {{ range(3)[1] }}",
    "{% set x = 1 %}{% for i in [1, 2] %}{% set x = i %}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for i in [5, 6] %}{% set ns.x = i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.found = false %}{{ ns.found }}",
    "{% set ns = namespace({'a': 1}) %}{{ ns.a }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set x %}captured {{ 1 }}{% endset %}[{{ x }}]", "{% if true %}{% set y = 2 %}{% endif %}{{ y }}",
    "{% with z = 3 %}{{ z }}{% endwith %}{{ z }}",
    "{% macro m(a, b='d') %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, b=2) }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}in{% endcall %}",
    "{% filter upper %}abc{% endfilter %}", "{% raw %}{{ raw }}{% endraw %}", "{# comment #}x{#- y -#} z",
    "a {%- if true -%} b {%- endif -%} c", "a {%+ if true %} b{% endif %}\n c",
    "  {% if true %}\n  x\n  {% endif %}\n", "{{ 'x' }}\n\n", "x\n", "{%- set x = 1 -%}\n\n {{ x }} \n",
    "{{ 'yes' if true else 'no' }} {{ 'yes' if false }}|", "{{ 1 if 0 else 2 if '' else 3 }}",
    "{{ not true }} {{ not '' }} {{ [] and 1 }} {{ 0 or 'x' }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ 1 < 2 < 3 }}",
    "{{ 1 == true }} {{ [1] == [1] }} {{ {'a': 1} == {'a': 1} }} {{ none == false }}",
    "{{ '%s is %d and %.2f' | format('x', 3, 2.5) }}", "{{ '{} {x}'.format(1, x=2) }}",
    "{{ 5 | string + 'x' }} {{ '5' | int + 1 }} {{ '2.5' | float }} {{ 2.7 | int }} {{ 2.5 | round }} {{ -3 | abs }}",
    ("{{ [3, 1, 2] | sort }} {{ [1, 2] | sum }} {{ [1, 2] | max }} {{ [3, 1] | min }} {{ [1, 1, 2] | unique | list }} "
     "{{ [1, 2, 3] | reverse | list }} {{ 'abc' | reverse }} {{ 'abc' | list }}"),
    ("{{ {'b': 1, 'a': 2} | dictsort }} {{ [1, 2, 3, 4] | batch(2) | list }} {{ 'a\\nb' | indent(2) }} "
     "{{ 'a\\nb' | indent(2, true) }}"),
    "{{ dict(a=1) }} {{ dict(a=1).a }} {{ {'items': 3}['items'] }}", "{{ messages[0]['content'][:5] + '...' }}",
    "{{ (messages | length) - 1 }} {{ messages|length - 1 }} {{ -1 | abs }}",
    "{{ raise_exception('told so: ' ~ messages[1].role) }}",
    "{% if messages[0].role != 'system' %}{{ raise_exception('no system: <é>') }}{% endif %}",
    "{{ strftime_now('%Y-%m-%d %H:%M:%S %j %B %A %%') }}", "{{ strftime_now('') }}|",
    "{{ bos_token }}{{ eos_token }}{{ unk_token }}|{{ pad_token is defined }}", "{{ add_generation_prompt }}",
    "{% generation %}a{% set q = 1 %}{% endgeneration %}{{ q }}", "{%- generation -%} a {%- endgeneration -%} b",
    "{# it's {{ a \"{% comment #}{% generation %}b{% endgeneration %}",
    "{{ '%} }} {% generation %}' }}{{ \"it's }}\" }}", "{% if %}", "{% for %}", "{{ 'unclosed }}", "{% unknown %}",
    "{{ x | unknown_filter }}",
    "{% if x is unknown_test %}{% endif %}", "{{ unknown_function() }}", "{{ 'x'.unknown_method() }}", "{% endif %}",
    "{{ messages.append(1) }}", "{{ 1 // 0 }}", "{{ 1 % 0 }}",
    ("{{ 'a'.isdigit() }} {{ '12'.isdigit() }} {{ ' \\x1c'.isspace() }} {{ 'a1'.isalnum() }} {{ 'ab'.isalpha() }} "
     "{{ 'AB'.isupper() }} {{ 'ab'.islower() }}"), "{{ 'x' is in ['x'] }} {{ 'x' is not none }}",
    "{{ [1, [2, 3]] | tojson }} {{ 'a' | first }} {{ 'abc' | last }} {{ [] | first }}|",
    "{{ [{'a': 1}, {'a': 2}] | sum(attribute='a') }} {{ [{'a': 2}, {'a': 1}] | sort(attribute='a') }}",
    "{% set l = ['a', 'b'] %}{% for x in l %}{{ x }}{{ ', ' if not loop.last }}{% endfor %}",
    "{{ messages[0].content.split(\"'\")[0].strip() ~ '|' }}", "{{ 'ab' ~ 'c' | upper }} {{ ('ab' ~ 'c') | upper }}",
    "{{ 'x' * -1 }}| {{ 3 * 'ab' }} {{ [0] * 3 }}", "{{ 10 | tojson }} {{ 'a' | tojson | tojson }}",
    "{{ '' is string and not '' }} {{ 'a' if '' is defined }}", "{{ messages[0] is not string }}",
    "{% for c in 'aé😀' %}[{{ c }}]{% endfor %}", "{% for k in {'x': 1, 'y': 2} %}{{ k }}{% endfor %}",
    "{% for x in nothing %}x{% endfor %}|", "{% for x in 5 %}{% endfor %}",
    "{{ {'a': 1, 'b': 2}.values() | sum }} {{ {'a': 1}.items() | first }} {{ ('k', 'v') | join('=') }}",
    "{{ '{{' }} }} {{ '%}' }}", "{{ 1_000 }} {{ 0x1f }}", "{{ 'a' if messages[0]['missing'] is not defined else 'b' }}",
    "{{ [messages[0].role, messages[1].role] | join(' ') | capitalize }}",
    "{% set comma = joiner(', ') %}{% for m in messages %}{{ comma() }}{{ m.role }}{% endfor %}",
    "{%- for m in messages -%}\n  {{- m.role -}}\n{%- endfor -%}\n",
    ("{{ [['a', 1], ['b', 2]] | map('first') | list }} {{ ['a', ''] | select | list }} "
     "{{ [1, 2, 3] | reject('odd') | list }} {{ ['x'] | map('upper') | join }}"), "{% do [].append(1) %}x",
    "{{ messages | groupby('role') | list | length }} {{ messages | attr('x') }}|",
    "{{ -7 / 2 }} {{ 7.0 // 2 }} {{ 1e3 }} {{ 123456789.123 }} {{ 0.0001 }}",
    "{% block a %}x{% endblock %}", "{% include 'other' %}", "{% extends 'other' %}", "{% import 'other' as o %}",
    "{{ messages[0].__class__ }}", "{{ ''.__class__.__mro__ }}",
    "{{ 'A' | lower is eq 'a' }} {{ 1 is lt 2 }} {{ 'x' is sameas 'x' }}",
    "{{ true | tojson }} {{ true | string }} {{ none | string }} {{ [true, none] | string }} {{ 1.0 | string }}",
]

# More of them, a line each, by feature; and those of several lines.
SNIPPETS += (Path(__file__).parent / "snippets.txt").read_text(encoding="utf-8").splitlines()
SNIPPETS += [
    "a\n  {% if true %}\n    b\n  {% endif %}\nc\n", "a\n  {%+ if true %}b{% endif +%}\nc",
    "  {%- if true -%}  \n  b\n  {%- endif -%}  \nc", "{{ 'a' }}\n{{- 'b' -}}\n   c\n\n",
    "{% for x in [1, 2] -%}\n  {{ x }}\n{%- endfor %}\n", "{% for x in [1, 2] %}\n  {{ x }}\n{% endfor %}\nend",
    "x {# c #}\ny{#- d -#}\n z\n  {# e #}\nw", "{% raw %}\n{{ x }}\n  {% endraw %}\nx",
    "a {%- raw -%} \n{{ x }} \n {%- endraw -%} \n x", "{% set x %}\n  a\n{% endset %}\n[{{ x }}]",
    "\n\n{% if true %}\n\na{% endif %}\n\n", "\t{% if true %}a{% endif %}\t\n", "a\r\n{% if true %}\r\nb{% endif %}\rc",
    "{% macro m(a) %}\n  <{{ a }}>\n{% endmacro %}\n{{ m(1) }}\n{{ m(2) }}", "{{ 'a\nb' }}", "{{ 'a\\\nb' }}",
    "{%\n  if true\n%}\na\n{%\nendif\n%}\nb", "{{\n 1\n +\n 2 }}", "   {{ 1 }}\n", "x{% if true %}\n{% endif %}\ny",
    "{% if true %}  {% endif %}  {% if true %}\n{% endif %}|", "{% with a = 1 %}\n{{ a }}\n{% endwith %}\n",
    "{% generation %}\n a\n{% endgeneration %}\nb", "{% filter upper %}\na\n{% endfilter %}\nb",
    "{% for x in [1] %}a{% endfor %}\n\n\nb", "\u00a0{%- if true %}a{% endif %}\u3000{%- if true %}b{% endif %}",
]
