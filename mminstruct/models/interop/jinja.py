"""A named chat template as the Jinja template that tokenizers and processors of transformers carry, and back.

What is written begins with a comment that holds the template's config. Reading believes it only where the whole text
is what would be written for that config; a Jinja template of anybody else says nothing about which of ours it is.
"""

from __future__ import annotations

import json

from pydantic import ValidationError

from mminstruct.chat_template import TemplateConfig
from mminstruct.chat_template.named import ROUNDS
from mminstruct.models.factory import IMAGE_TOKEN

_BEGIN, _END = "{# mminstruct: ", " #}"

# `@NAME@` is replaced by a string literal.
_TEMPLATE = """\
{%- macro leading(message) -%}
{%- if message['content'] is not string -%}{%- set at = namespace(image=false, go=true) -%}
{%- for part in message['content'] -%}{%- set at.go = at.go and part['type'] == 'image' -%}{%- if at.go -%}
{{- (@NEIGHBOUR_BEFORE@ if at.image else @IMAGE_BEFORE@) ~ @IMAGE@ ~ @IMAGE_AFTER@ -}}{%- set at.image = true -%}
{%- endif -%}{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{%- macro content(message, skip=false) -%}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}{%- set at = namespace(image=false, skip=skip) -%}{%- for part in message['content'] -%}
{%- set at.skip = at.skip and part['type'] == 'image' -%}
{%- if at.skip -%}{%- elif part['type'] == 'image' -%}
{{- (@NEIGHBOUR_BEFORE@ if at.image else @IMAGE_BEFORE@) ~ @IMAGE@ ~ @IMAGE_AFTER@ -}}{%- set at.image = true -%}
{%- else -%}{{- part['text'] -}}{%- set at.image = at.image and not part['text'] -%}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- endmacro -%}
{%- set system, turns = @SYSTEM@, messages -%}
{%- if messages and messages[0]['role'] == 'system' -%}
{%- set system, turns = content(messages[0]), messages[1:] -%}
{%- endif -%}
{%- if system -%}{%- set system = @SYSTEM_BEFORE@ ~ system ~ @SYSTEM_AFTER@ -%}{%- endif -%}
@PLACE_BEFORE@
{%- for message in turns -%}
{%- if message['role'] == 'user' -%}
@PLACE_LEADING@
{{- @USER_BEFORE@ if loop.first else @LATER_BEFORE@ -}}
@PLACE_FIRST@
{%- if message['content'] is string or (message['content'] and message['content'][0]['type'] != 'image') -%}
{{- @TEXT_LEAD@ -}}
{%- endif -%}
{{- content(message, @SKIP_LEADING@) -}}
{{- @USER_AFTER@ if loop.first else @LATER_AFTER@ -}}
{%- elif message['role'] == 'assistant' -%}
{{- @PROMPT@ -}}{{- @LEAD@ ~ content(message) ~ @TAIL@ ~ @AFTER_END@ -}}
{%- else -%}{{- raise_exception('no place for a message of the role ' ~ message['role']) -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- @PROMPT@ -}}{%- endif -%}
"""


def to_jinja(config: TemplateConfig, image: str = IMAGE_TOKEN) -> str:
    """The Jinja template of one of `ROUNDS`.

    Args:
        image: what marks an image; empty for processors that put image tokens in front by themselves.
    """
    rounds = ROUNDS[config.name]
    system_before, _, system_after = rounds.system_format.partition("{}")
    user_before, _, user_after = rounds.user_format.partition("{}")
    later_before, _, later_after = rounds.later_user_format.partition("{}")
    image_format = rounds.image_format if config.image_format is None else config.image_format
    image_before, _, image_after = image_format.partition("{}")
    before = rounds.system_place == "before"
    places = {
        "@PLACE_BEFORE@": "{{- system -}}" if before else "",
        "@PLACE_LEADING@": "{{- leading(message) -}}" if rounds.leading_images_first else "",
        "@SKIP_LEADING@": "true" if rounds.leading_images_first else "false",
        "@PLACE_FIRST@": "" if before else "{%- if loop.first -%}{{- system -}}{%- endif -%}",
    }
    strings = {
        "@IMAGE@": image,
        "@IMAGE_BEFORE@": image_before,
        "@NEIGHBOUR_BEFORE@": "" if image_before == image_after else image_before,
        "@IMAGE_AFTER@": image_after,
        "@SYSTEM@": rounds.system if config.system is None else config.system,
        "@SYSTEM_BEFORE@": system_before,
        "@SYSTEM_AFTER@": system_after,
        "@USER_BEFORE@": user_before,
        "@USER_AFTER@": user_after,
        "@LATER_BEFORE@": later_before,
        "@LATER_AFTER@": later_after,
        "@TEXT_LEAD@": rounds.user_text_lead,
        "@PROMPT@": rounds.assistant_prompt,
        "@LEAD@": rounds.assistant_lead,
        "@TAIL@": rounds.answer_tail + rounds.end,
        "@AFTER_END@": rounds.after_end,
    }
    text = _TEMPLATE
    for place, value in places.items():
        text = text.replace(place, value)
    for place, value in strings.items():
        text = text.replace(place, json.dumps(value))
    return f"{_BEGIN}{config.model_dump_json()}{_END}\n{text}"


def from_jinja(text: str | None) -> TemplateConfig | None:
    """The config of a template that `to_jinja` wrote; `None` for any other."""
    if text is None or not text.startswith(_BEGIN):
        return None
    try:
        config = TemplateConfig.model_validate_json(text.partition("\n")[0].removeprefix(_BEGIN).removesuffix(_END))
    except ValidationError:
        return None
    if config.name not in ROUNDS:
        return None
    return config if text in (to_jinja(config), to_jinja(config, image="")) else None
