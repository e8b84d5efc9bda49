"""Answers from the facts alone, by the prompt's own template: free, offline, the same each time."""

from __future__ import annotations

import random
from typing import ClassVar

from mminstruct.building.clients.base import Call, LanguageModelClient
from mminstruct.building.request import Completion


class TemplateClient(LanguageModelClient):
    backend = "template"
    paid: ClassVar[bool] = False
    model = "template"

    def complete(self, call: Call) -> Completion:
        if call.prompt is None:
            raise TypeError("a question that no prompt made has no template")
        return Completion(text=call.prompt.template(call.facts, random.Random(call.key)))
