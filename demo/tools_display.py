"""What the tab "Tools" shows of a chat: thoughts, calls, what the tools gave with its places in the picture, answers.

turns of a ToolChat ──▶ messages of Gradio's chatbot; results ──▶ files of pictures with boxes drawn on them
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mminstruct.demo.display import EMPTY, Problem, as_markdown
from mminstruct.demo.marks import BOX_COLOUR, Mark, drawn
from mminstruct.demo.uploads import Shown
from mminstruct.serving.chat import Turn
from mminstruct.serving.tools import Feedback, Result, parts

# The marks of an answer in LLaVA-Plus' form, as far as it has come.
_PARTS = re.compile(
    r'\A"thoughts🤔" ?(?P<thoughts>.*?)(?:\n"actions🚀" ?(?P<actions>.*?)(?:\n"value👉" ?(?P<value>.*))?)?\Z', re.DOTALL
)
_LABELS = ("phrases", "texts")  # under which tools name what they found
_MOST = 40  # things of a result that are listed


def messages(
    turns: Sequence[Turn], problems: Mapping[Turn, Problem], pictures: Callable[[Result], list[Path]]
) -> list[dict[str, Any]]:
    """The chatbot's messages. `pictures` gives the files that show a result."""
    shown: list[dict[str, Any]] = []
    for turn in turns:
        if isinstance(turn.attachment, Feedback):
            for result in turn.attachment.results:
                shown.append(_given(result, turn.attachment.by_hand, pictures(result)))
        else:
            shown.append({"role": "user", "content": _asked(turn)})
        shown += [{"role": "assistant", "content": [_text(one)]} for one in _answer(turn, problems)]
    return shown


def _asked(turn: Turn) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    for medium in turn.attachment.media if isinstance(turn.attachment, Shown) else ():
        content.append({"path": str(medium.picture), "alt_text": medium.label})
    if turn.text.strip():
        content.append(_text(as_markdown(turn.text)))
    return content


def _given(result: Result, by_hand: bool, pictures: Sequence[Path]) -> dict[str, Any]:
    content: list[dict[str, Any]] = [
        {"path": str(path), "alt_text": f"what {result.tool} gave, picture {number}"}
        for number, path in enumerate(pictures, start=1)
    ]
    called = f"{code(call(result.tool, result.arguments))}\n\n" if by_hand else ""
    content.append(
        _text(f"**Tool {as_markdown(result.tool)}**{' (run by hand)' if by_hand else ''}\n\n{called}{listed(result)}")
    )
    return {"role": "user", "content": content}


def _answer(turn: Turn, problems: Mapping[Turn, Problem]) -> list[str]:
    """The Markdown of an answer's parts, those that there are so far."""
    told = turn.answer or ""
    found = _PARTS.match(told)
    if found is None:
        pieces = [as_markdown(told)]
        if not told.strip() and turn.usage is not None:
            pieces = [EMPTY.get(turn.usage.finish_reason, "")]
    else:
        whole = parts(turn)
        if whole is not None:
            calls = [code(call(str(one.get("API_name")), one.get("API_params"))) for one in whole.actions]
        else:
            calls = [code(found["actions"])] if (found["actions"] or "").strip() not in ("", "[]") else []
        pieces = [f"**Thought**\n\n{as_markdown(found['thoughts'])}"]
        pieces += [f"**Action**\n\n{one}" for one in calls]
        pieces += [as_markdown(found["value"])] if found["value"] else []
    if turn in problems:
        pieces.append(problems[turn].markdown())
    return [piece for piece in pieces if piece.strip()]


def call(tool: str, arguments: Any) -> str:
    """An action as people write a call: `crop(box=[0, 0, 1, 1])`."""
    if not isinstance(arguments, dict):
        return f"{tool}({'' if arguments is None else json.dumps(arguments, ensure_ascii=False)})"
    given = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items())
    return f"{tool}({', '.join(given)})"


def code(text: str) -> str:
    """A block of Markdown that shows a text as it is, whatever it holds."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def listed(result: Result) -> str:
    """Markdown of what a tool gave: a line for each thing that it found, else its output as JSON."""
    output = result.output
    if result.failed:
        return f"It failed: {as_markdown(str(output['error']))}"
    names = next((output[key] for key in _LABELS if isinstance(output.get(key), list)), None)
    if names is None:
        return code(json.dumps(output, ensure_ascii=False))
    if not names:
        return "It found nothing."
    numbers = {key: values for key, values in output.items() if _numbers(values, len(names))}
    lines = []
    for place, name in enumerate(names[:_MOST]):
        told = ", ".join(f"{key} {values[place]}" for key, values in numbers.items())
        lines.append(f"{place + 1}. {as_markdown(str(name))}{f' ({told})' if told else ''}")
    more = len(names) - _MOST
    return "\n".join(lines) + (f"\n\nand {more} more" if more > 0 else "")


def _numbers(values: Any, length: int) -> bool:
    return isinstance(values, list) and len(values) == length and all(isinstance(one, int | float) for one in values)


def marked(result: Result) -> list[tuple[Image.Image, str]]:
    """The pictures that show a result, and their names: numbered boxes in what was looked at, what was added."""
    boxes = result.output.get("boxes")
    tool = re.sub(r"\W+", " ", result.tool)
    found = []
    if result.picture is not None and isinstance(boxes, list) and boxes:
        width, height = result.picture.size
        marks = [
            Mark((box[0] * width, box[1] * height, box[2] * width, box[3] * height), str(number), BOX_COLOUR)
            for number, box in enumerate(boxes[:_MOST], start=1)
            if _numbers(box, 4)
        ]
        found.append((drawn(result.picture.convert("RGB"), marks), f"boxes of {tool}"))
    return [*found, *((picture, f"picture by {tool}") for picture in result.pictures)]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
