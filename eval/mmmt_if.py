"""MMMT-IF (Epstein et al., arXiv 2409.18216): chats about pictures whose instructions on form add up, turn by turn.

    chats.jsonl {id, turns: [{question, images, instructions: [{id, kwargs, text}]}]} ─▶ an item for each turn
    turn 1 ─ reply ─▶ turn 2 ─ reply ─▶ ...   each turn is asked behind the model's own earlier replies

An answer must follow all instructions given so far (PIF). The paper's 71 chats are not public with a program, so the
layout is this project's: `id` and `kwargs` say how an instruction is checked (docs/scorers), `text` how it is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mminstruct.config import Config
from mminstruct.conversation import Conversation, Media, Message, Part, image, message, text
from mminstruct.errors import DataError
from mminstruct.evaluation.benchmark import Benchmark, Item, Protocol
from mminstruct.evaluation.local_files import Pictures, found
from mminstruct.evaluation.scorers.mmmt_if import read_chats

REPEATED = "instructions-repeated"


class MmmtIf(Benchmark):
    name = "mmmt-if"
    summary = "MMMT-IF: chats about pictures in which instructions on the form of answers add up."
    primary_scorer = "mmmt-if.paper"
    protocols = (
        Protocol(
            name="chat",
            source="arXiv 2409.18216: instructions stand where they are given; one answer a turn, greedily",
            max_new_tokens=1024,
        ),
        Protocol(
            name=REPEATED,
            source="arXiv 2409.18216, the ablation: all instructions given so far again at the end; wording of ours",
            max_new_tokens=1024,
        ),
    )
    data = "chats in the layout of docs/scorers (the paper's 71 chats are not public with a program), images=DIR"

    class Options(Config):
        """The file of chats and the folder that the paths of their images start from (left out: that of the file)."""

        file: Path
        images: Path | None = None

    options: Options

    def items(self) -> Iterator[Item]:
        """Raises `DataError` where the file or an image is missing or not as described."""
        chats = read_chats(found(self.options.file, self.data))
        pictures = Pictures(self.options.images or self.options.file.absolute().parent, self.data)
        self._turns: dict[str, Item] = {}
        for item in chats:
            if self.protocol.name == REPEATED:
                _all_said(item)
            shown = tuple(pictures.named(str(path)) for path in item.images)
            self._turns[item.id] = replace(item, images=shown)
            yield self._turns[item.id]

    def conversation_after(self, item: Item, replies: Sequence[str]) -> Conversation:
        """The chat up to a turn, with the model's own replies."""
        media: list[Media] = []
        messages: list[Message] = []
        for earlier, reply in zip(item.after, replies, strict=True):
            messages += [self._user(self._turns[earlier], media), message("assistant", reply)]
        messages.append(self._user(item, media, last=True))
        return Conversation(id=item.id, messages=messages, media=media)

    def conversation(self, item: Item) -> Conversation:
        """A turn by itself: the first of a chat."""
        media: list[Media] = []
        return Conversation(id=item.id, messages=[self._user(item, media, last=True)], media=media)

    def _user(self, item: Item, media: list[Media], last: bool = False) -> Message:
        """A turn's images, the instructions given in it, and its question; `media` grows by the images."""
        parts: list[Part] = [image(len(media) + number) for number in range(len(item.images))]
        media += [Media(path=str(path)) for path in item.images]
        given = item.facts["instructions"]
        new = [one.get("text", "") for one in given[len(given) - item.facts["new"] :]]
        lines = [*([""] if parts else []), *filter(None, new), item.question]
        if last and self.protocol.name == REPEATED and given:
            lines += ["", "Follow all of these instructions:", *(f"- {said}" for said in _all_said(item))]
        return Message(role="user", content=[*parts, text("\n".join(lines))])


def _all_said(item: Item) -> list[str]:
    said = [str(one.get("text", "")) for one in item.facts["instructions"]]
    if not all(said):
        raise DataError(
            f"turn {item.id!r} has an instruction without `text`, which is to be repeated; write how it is said"
        )
    return said


BENCHMARK = MmmtIf

if __name__ == "__main__":
    from mminstruct.cli.eval import run_in_place

    run_in_place(__file__)
