"""The settings of an answer as the page offers them, and what comes back of them from the browser.

panel = SettingsPanel(context_length=4096, system=None)
fields = panel.build()                              # Gradio components, in one order
settings, system = read(values of the fields)       # checked here as well: the browser may send anything
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import gradio as gr

from mminstruct.config import validate
from mminstruct.errors import ConfigError
from mminstruct.serving.settings import MAX_STOPS, GenerationSettings

USUAL_LENGTH = 512
MAX_LENGTH = 1_000_000
MAX_SYSTEM = 20_000
NARROW = 150
# What the fields are called in an error, in their order.
_LABELS = {
    "max_new_tokens": "Longest answer",
    "temperature": "Temperature",
    "top_p": "Top-p",
    "top_k": "Top-k",
    "min_p": "Min-p",
    "repetition_penalty": "Repetition penalty",
    "seed": "Seed",
    "stop": "Stop texts",
}
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}


class SettingsPanel:
    """The fields of one panel. `prefix` stands before their ids, where a page has several panels."""

    def __init__(self, context_length: int | None, system: str | None, prefix: str = "") -> None:
        self._limit = context_length or 4096
        self._system = system
        self._prefix = prefix

    def build(self) -> list[Any]:
        """The fields, in the order that `read` takes their values."""
        limit = self._limit
        with gr.Row():
            fields: list[Any] = [
                self._slider("tokens", "Longest answer", "tokens", 1, limit, min(USUAL_LENGTH, limit), 1),
                self._slider("temperature", "Temperature", "0 always takes the likeliest token", 0, 2, 0, 0.05),
                self._slider("top-p", "Top-p", "share of the likeliest drawn from", 0.05, 1, 1, 0.05),
                self._slider("top-k", "Top-k", "so many likeliest drawn from; 0: all", 0, 200, 0, 1),
                self._slider("min-p", "Min-p", "share of the likeliest one; 0: off", 0, 1, 0, 0.01),
                self._slider("penalty", "Repetition penalty", "1: none", 0.5, 2, 1, 0.05),
                gr.Textbox(
                    label="Seed",
                    info="empty: another answer each time",
                    max_lines=1,
                    min_width=NARROW,
                    elem_id=f"{self._prefix}seed",
                ),
                gr.Textbox(
                    label="Stop texts",
                    info=r"one a line, \n is a line feed; the answer ends before the first",
                    lines=1,
                    max_lines=4,
                    min_width=NARROW,
                    elem_id=f"{self._prefix}stop-texts",
                ),
            ]
        fields.append(
            gr.Textbox(
                value=self._system or "",
                label="System text",
                info="empty: the chat template's own",
                lines=2,
                max_lines=6,
                max_length=MAX_SYSTEM,
                elem_id=f"{self._prefix}system",
            )
        )
        return fields

    def _slider(
        self, name: str, label: str, info: str, low: float, high: float, value: float, step: float
    ) -> gr.Slider:
        return gr.Slider(
            low, high, value, step=step, label=label, info=info, min_width=NARROW, elem_id=f"{self._prefix}{name}"
        )


def read(values: Sequence[Any]) -> tuple[GenerationSettings, str | None]:
    """The settings and the system text (None: the chat template's own) out of the fields' values.

    Raises `ConfigError` where a value is none that its field can have.
    """
    tokens, temperature, top_p, top_k, min_p, penalty, seed, stops, system = values
    if system is not None and (not isinstance(system, str) or len(system) > MAX_SYSTEM):
        raise ConfigError(f"the system text may have {MAX_SYSTEM:,} characters; shorten it")
    found: dict[str, Any] = {
        "max_new_tokens": tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repetition_penalty": penalty,
        "seed": str(seed or "").strip() or None,
        "stop": stop_texts(stops),
    }
    for name in ("max_new_tokens", "top_k"):  # sliders of whole numbers may say 5.0
        if isinstance(found[name], float) and found[name].is_integer():
            found[name] = int(found[name])
    try:
        settings = validate(GenerationSettings, found, where="the settings")
    except ConfigError as error:
        raise ConfigError(_with_labels(str(error))) from None
    return settings, (system or "").strip() or None


def stop_texts(text: Any) -> tuple[str, ...]:
    r"""The stop texts in a field: one a line, `\n`, `\t` and `\\` written so. Raises `ConfigError` for too many."""
    lines = [line for line in str(text or "").split("\n") if line.strip()]
    if len(lines) > MAX_STOPS:
        raise ConfigError(f"{len(lines)} stop texts are given; give at most {MAX_STOPS}")
    return tuple(re.sub(r"\\[nt\\]", lambda match: _ESCAPES[match[0]], line) for line in lines)


def _with_labels(message: str) -> str:
    """An error of the settings in the words of the page."""
    for name, label in _LABELS.items():
        message = re.sub(rf"\b{name}\b", label, message)
    return message
