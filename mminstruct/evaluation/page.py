"""Pages of evaluations: one file each, nothing fetched from anywhere, one script of ours and no other.

template, values ──▶ HTML with its Content-Security-Policy, which names the script by its hash
collection of exhibits ── data ──▶ JSON inside the page, from which the script makes cards, of text only
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mminstruct.evaluation import words

_HERE = Path(__file__).parent
_SCRIPT = "look_through.js.html.jinja"


def render(template: str, **values: Any) -> str:
    """The page. What comes from data sets and models is escaped, whatever it is."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "points", "score_text", "error_text", "interval_text", "difference_text", "chance_text"):
        environment.filters[name] = getattr(words, name)
    environment.filters["control_text"] = words.control_text
    environment.filters |= {"duration": words.duration, "fact": words.fact, "data": data}
    script = (_HERE / _SCRIPT).read_text(encoding="utf-8")
    return environment.get_template(template).render(script=Markup(script), policy=policy(script), **values)


def policy(script: str) -> str:
    """Nothing but what the page itself brings; of scripts this one alone, so that no text of others can be one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def data(value: Any) -> Markup:
    """JSON that nothing in it can end: no `<` as of `</script>` or `<!--`, no line end that scripts do not know."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)
