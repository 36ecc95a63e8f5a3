#!/usr/bin/env python3
"""Writes tests/text/fixtures/templates.json: what Python's jinja2, set up as transformers sets it up,
makes of chat templates in the manner of the field and of small ones for each part of the language.
Run as make_fixtures.py is."""
import json
import pathlib

from jinja2.sandbox import ImmutableSandboxedEnvironment

LLAMA3 = """{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""

QWEN2 = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

QWEN_TOOLS = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='', is_first_sp=true) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\n\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{%- if ns.is_tool %}{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜>'}}{% endif %}"""

MIXTRAL = """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system_message is defined %}
            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- ' [INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] + eos_token}}
    {%- else %}
        {{- raise_exception('Only user and assistant roles are supported, with the exception of an initial optional system message!') }}
    {%- endif %}
{%- endfor %}
"""

SYSTEM = {"role": "system", "content": "  Sei kurz. \n"}
USER = {"role": "user", "content": " Hello {{x}} 'é' 中文 \n"}
ANSWER = {"role": "assistant", "content": "<think>\nhm</think>Hi!"}
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": {"name": "f", "arguments": {"a": [1, 2.5, None], "b": "ü\"<&>'"}}}]}
TOOL = {"role": "tool", "content": "{\"t\": 1}"}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}}]
CONVERSATIONS = [[USER], [SYSTEM, USER], [USER, ANSWER, USER], [SYSTEM, USER, ANSWER, USER, ANSWER],
                 [USER, USER], [USER, CALL, TOOL, TOOL, ANSWER, USER], [ANSWER]]

SNIPPETS = r"""
{{ 1 + 2 * 3 - 4 // 3 }} {{ 7 % 3 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 6 / 4 }} {{ 2.5 * 2 }} {{ -x }} {{ 1.0 }}
{{ 'a' ~ 1 ~ none ~ true }} {{ 'a' + 'b' }} {{ [1] + [2, 'x'] }} {{ (1, 2)[0] }} {{ {'a': 1, "b": [true]}.b }}
{{ x == 3 and y or 'z' }} {{ not x }} {{ not x == 4 }} {{ 1 < 2 }} {{ x >= 3 }} {{ 'b' in 'abc' }} {{ 3 not in [1, 2] }} {{ 'k' in d }}
{{ u }}|{{ u is defined }}|{{ x is defined }}|{{ u is undefined }}|{{ n is none }}|{{ n is not none }}|{{ d.nothing is defined }}
{{ s is string }} {{ d is mapping }} {{ l is iterable }} {{ l is sequence }} {{ x is number }} {{ x is odd }} {{ x is even }} {{ x is integer }} {{ true is boolean }}
{{ s[0] }}{{ s[-1] }}{{ s[1:3] }}{{ s[::-1] }}{{ s[:-1] }}{{ l[1:] }}{{ l[:1] }}{{ l[-2:] }}{{ l[5:] }}{{ l[::2] }}{{ l[::-1] }}
{{ s | length }} {{ l | length }} {{ d | count }} {{ '  a b ' | trim }}| {{ s | upper }} {{ 'ÄB' | lower }} {{ l | join('-') }} {{ l | first }} {{ l | last }}
{{ u | default('x') }} {{ '' | default('y', true) }} {{ n | default('z') }} {{ u | d(5) }} {{ '' | default('w', boolean=True) }}
{{ d | tojson }} {{ l | tojson(indent=2) }} {{ "ü<'\"\n" | tojson }} {{ {} | tojson }} {{ [] | tojson(indent=4) }} {{ {'a': {'b': []}} | tojson(indent=1) }} {{ 1.5e-7 | tojson }}
{{ '  x '.strip() }}|{{ '  x '.lstrip() }}|{{ '  x '.rstrip() }}|{{ 'xxayx'.strip('x') }}|{{ 'a,b,,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('b', 'c')) }}
{{ 'aXbX'.replace('X', '') }} {{ 'ab' | replace('a', 'c') }} {{ d.get('k') }} {{ d.get('q') }} {{ d.get('q', 1) }} {{ d.items() | list | length }} {{ d.keys() | list }} {{ ', '.join(['a', 'b']) }}
{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ i }};{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }},{% endfor %}{% for c in 'añ' %}{{ c }}.{% endfor %}{% for e in [] %}x{% else %}none{% endfor %}{% for k in d %}{{ k }}{% endfor %}
{% for i in l if i != 2 %}{{ i }}{{ loop.last }}{% endfor %}{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 1, -2) %}{{ i }}{% endfor %}
{% set a = 1 %}{% for i in l %}{% set a = i %}{% endfor %}{{ a }}{% set ns = namespace(n=0) %}{% for i in l %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}
{% set block %}a{{ x }}b{% endset %}{{ block }}{{ block | length }}{{ 'yes' if x > 2 else 'no' }}{{ 'only' if x > 5 }}|{{ [1 if x else 2, 3] }}
{% if u %}a{% elif x == 3 %}b{% else %}c{% endif %}{% if l and not u %}d{% endif %}{% if 'x' is equalto 'x' %}e{% endif %}
  a  {%- if x -%}  b  {%- endif -%}  c  {{- x -}}  d {# comment #} e {#- comment -#} f
{{ l | map('string') | join(',') }} {{ m | map(attribute='role') | join(',') }} {{ m | selectattr('role', 'equalto', 'a') | list | length }} {{ m | rejectattr('on') | list }}
{{ "it's" }} {{ ["it's", 'q"', "n\nl"] }} {{ d }} {{ none }} {{ true }} {{ [none, false, 1.5] }} {{ 'a' 'b' }} {{ "\\ \' \" \t" }}
{{ '%s' | string }} {{ '12' | int + 1 }} {{ x | string + '!' }} {{ 'a' if u is not defined else 'b' }} {{ (x + 1) * 2 }} {{ l[x - 3] }} {{ d['k'] }} {{ d[s] is defined }}
{{ m[0].role }} {{ m[-1]['role'] }} {{ m[0].role == 'a' and m | length == 2 }} {{ 'b' == m[1].role and 'yes' or 'no' }} {{ l | length > 2 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }}
""".strip("\n").split("\n")

BLOCKS = ["a\n{% if true %}\n  b\n  {% if x %}\n  c\n  {% endif %}\n{% endif %}\nd\n", "  {% set a = 1 %}  \n  {{ a }}  \n\n", "x {# c #}\n y\n",
          "{%- for i in l %}\n  {{ i }}\n{%- endfor %}\nend\n\n", "a {%+ if x %} b {% endif +%}\n c", "\t{%- if x -%}\n\n b \n{%- endif %}\n\n z",
          "{{ x }}\n{{ x -}}\n\n{{ x }}", "{% if x %}\r\na\r\n{% endif %}\r\nb", "{{ '%}' }}{{ \"}}\" }}{% if '%}' %}q{% endif %}", "{{ {'a': {'b': 1}}['a']['b'] }}", ""]

VARIABLES = {"x": 3, "y": "why", "s": "añb中", "l": [1, 2, 3], "n": None, "d": {"k": "v", "i": 2, "f": 0.5},
             "m": [{"role": "a", "on": True}, {"role": "b", "on": False}]}


def environment():
    def fail(message):
        raise ValueError(message)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None: json.dumps(x, ensure_ascii=ensure_ascii, indent=indent)
    env.globals["raise_exception"] = fail
    return env


def render(source, variables):
    try:
        return {"template": source, "variables": variables, "text": environment().from_string(source).render(**variables)}
    except ValueError as error:
        return {"template": source, "variables": variables, "error": str(error)}


def main():
    out = [render(source, VARIABLES) for source in SNIPPETS + BLOCKS]
    for source in (LLAMA3, QWEN2, QWEN_TOOLS, DEEPSEEK, MIXTRAL):
        for messages in CONVERSATIONS:
            for more in ({}, {"add_generation_prompt": True, "tools": TOOLS}):
                out.append(render(source, {"messages": messages, "bos_token": "<s>", "eos_token": "</s>", **more}))
    path = pathlib.Path(__file__).parent / "fixtures" / "templates.json"
    path.write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
