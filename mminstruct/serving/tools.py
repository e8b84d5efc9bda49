"""A chat in which the model may call tools, in LLaVA-Plus' form (`mminstruct.formats.llava_plus`).

    question ─▶ answer: thoughts, actions [call], value ──run──▶ "TOOL output: {...}" ─▶ answer: thoughts, [], value
                        └────────────── again, at most `rounds` times ──────────────┘

    with Toolbox() as tools:
        chat = ToolChat(ChatSession(engine), tools)
        for turn in chat.ask("Where is the red circle?", [picture], settings, cancel):
            ...                               # turn.answer has grown, or a new turn has begun
        chat.chat.turns                       # the last one's answer is the final one

What a tool gives is the user's next turn, with a crop as one more picture in it. A tool that fails says so in that turn
in one line, so the model can go on; only the chat's own failures are raised.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from mminstruct.errors import DataError, MminstructError, did_you_mean
from mminstruct.formats.llava_plus import ToolTurn, outputs, parse
from mminstruct.media import Video
from mminstruct.serving.chat import ChatSession, Reply, Turn
from mminstruct.serving.settings import GenerationSettings
from mminstruct.serving.tool_process import ToolCard, ToolLimits, ToolProcess, entries

if TYPE_CHECKING:
    from collections.abc import Iterable

ROUNDS = 4
ACTIONS = 4  # of one answer that are run; more are answered with a line
WAIT_SECONDS = 0.25  # after which a turn is given again although nothing of it is new
IMAGE = "image"  # the parameter of any call that says which of the chat's pictures is meant, counted from 0


@dataclass(frozen=True, eq=False)  # two equal results are still two
class Result:
    """What came of one action.

    Attributes:
        tool: as the action names it; `arguments` likewise.
        output: what the model is told, `{"error": ...}` where it failed.
        picture: what the tool looked at; None where there was none, or it was not known which.
        pictures: what it added to the conversation.
    """

    tool: str
    arguments: dict[str, Any]
    output: dict[str, Any]
    failed: bool = False
    picture: Image.Image | None = field(default=None, repr=False)
    pictures: tuple[Image.Image, ...] = field(default=(), repr=False)


@dataclass(eq=False)
class Feedback:
    """What a turn that brings tools' results carries as its attachment.

    Attributes:
        results: in the order of the actions.
        by_hand: whether a person ran the tools.
        attachment: of the turn's user, as `Turn.attachment` is elsewhere.
    """

    results: list[Result]
    by_hand: bool = False
    attachment: Any = None


class Toolbox(Mapping[str, ToolCard]):
    """The tools by name: those of the toolbox, and those of files of one's own. Leaving the `with` block ends them.

    Raises:
        RunError: their process did not start, or two are called alike.
    """

    def __init__(self, own: Sequence[str] = (), limits: ToolLimits | None = None) -> None:
        self._process = ToolProcess([*entries(), *own], limits)

    @property
    def missing(self) -> list[str]:
        """Why some tools are not there, a line for each file."""
        return self._process.missing

    def __getitem__(self, name: str) -> ToolCard:
        return self._process.cards[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._process.cards)

    def __len__(self) -> int:
        return len(self._process.cards)

    def run(
        self,
        action: Mapping[str, Any],
        pictures: Sequence[Image.Image],
        newest: int = 0,
        cancel: threading.Event | None = None,
    ) -> Result:
        """Run `{"API_name": ..., "API_params": {...}}` on one of `pictures`, the chat's in their order.

        Which one the parameter `image` says; left out, it is number `newest`. A failure is a result.
        """
        name, given = action.get("API_name"), action.get("API_params", {})
        tool = name if isinstance(name, str) else "tool"
        arguments = dict(given) if isinstance(given, dict) else {}
        picture = None
        try:
            if not isinstance(name, str):
                raise DataError(f"the action names no tool; API_name is one of {', '.join(self)}")
            if tool not in self:
                raise DataError(f"no tool is called {name[:100]!r}.{did_you_mean(name[:100], self)}")
            if not isinstance(given, dict):
                raise DataError(f"{tool} needs its API_params as an object of names and values")
            rest = {key: value for key, value in arguments.items() if key != IMAGE}
            picture = _chosen(pictures, arguments.get(IMAGE, newest))
            found = self._process.call(tool, rest, picture, cancel)
        except MminstructError as error:
            return Result(tool, arguments, {"error": str(error)}, True, picture)
        return Result(tool, arguments, found.output, False, picture, found.pictures)

    def close(self) -> None:
        self._process.close()

    def __enter__(self) -> Toolbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _chosen(pictures: Sequence[Image.Image], index: Any) -> Image.Image:
    if not pictures:
        raise DataError("the chat has no picture that a tool could look at; add one")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(pictures):
        raise DataError(f"image {str(index)[:20]} is none of the chat's {len(pictures)}; count from 0")
    return pictures[index]


class ToolChat:
    """A chat whose answers may call tools. `chat.turns` holds questions and, as turns of their own, tools' results.

    Attributes:
        running: the tools that run now.
        stopped: why the last answer's actions were not run, where they were not; else empty.
    """

    def __init__(self, chat: ChatSession, tools: Toolbox, rounds: int = ROUNDS) -> None:
        self.chat = chat
        self.tools = tools
        self.rounds = rounds
        self.running: list[str] = []
        self.stopped = ""

    def ask(
        self,
        text: str,
        media: Sequence[Image.Image | Video] = (),
        settings: GenerationSettings | None = None,
        cancel: threading.Event | None = None,
        attachment: Any = None,
    ) -> Iterator[Turn]:
        """Ask, run what the answers call, and give the turn each time that something of it is new, or a while has gone.

        The question is asked at once; raises what `ChatSession.ask` raises. Iterating raises what generation raised.
        """
        reply = self.chat.ask(text, media, settings, cancel, attachment)
        return self._go_on(reply, settings, cancel)

    def run(self, tool: str, arguments: dict[str, Any], cancel: threading.Event | None = None) -> Result:
        """One tool, by hand, on the newest picture of the chat; nothing is asked."""
        return self.tools.run({"API_name": tool, "API_params": arguments}, *self._pictures(), cancel)

    def feed(
        self,
        results: Sequence[Result],
        settings: GenerationSettings | None = None,
        cancel: threading.Event | None = None,
        attachment: Any = None,
    ) -> Iterator[Turn]:
        """Give the model results of tools that a person has run, and let it answer the last question by them.

        Raises `DataError` where there is no question yet.
        """
        reply = self._told(list(results), True, settings, cancel, attachment)
        return self._go_on(reply, settings, cancel)

    def retry(
        self, settings: GenerationSettings | None = None, cancel: threading.Event | None = None
    ) -> Iterator[Turn]:
        """Answer the last question again, without what tools gave. Raises `DataError` when there is none."""
        question = self.undo()
        if question is None:
            raise DataError("the chat has no question to answer again; ask one")
        return self.ask(question.text, question.media, settings, cancel, question.attachment)

    def undo(self) -> Turn | None:
        """Take the last question and all that followed out of the chat and return it; None when there is none."""
        while (turn := self.chat.undo()) is not None:
            if not isinstance(turn.attachment, Feedback):
                return turn
        return None

    @property
    def question(self) -> Turn | None:
        """The last turn that a person wrote."""
        asked = (turn for turn in reversed(self.chat.turns) if not isinstance(turn.attachment, Feedback))
        return next(asked, None)

    def _go_on(
        self, reply: Reply, settings: GenerationSettings | None, cancel: threading.Event | None
    ) -> Iterator[Turn]:
        self.stopped = ""
        for number in range(self.rounds + 1):
            try:
                yield reply.turn
                while not reply.ended:
                    reply.wait(WAIT_SECONDS)
                    yield reply.turn
            finally:
                reply.close()
            actions = _actions(reply.turn)
            if not actions or (cancel is not None and cancel.is_set()):
                return
            if number == self.rounds:
                self.stopped = f"tools were called {self.rounds} times for this question, as often as they may be"
                return
            self.running = [str(action.get("API_name")) for action in actions[:ACTIONS]]
            try:
                yield reply.turn
                results = list(self._results(actions, cancel))
            finally:
                self.running = []
            if (cancel is not None and cancel.is_set()) or reply.turn not in self.chat.turns:
                return
            reply = self._told(results, False, settings, cancel, None)

    def _results(self, actions: Iterable[dict[str, Any]], cancel: threading.Event | None) -> Iterator[Result]:
        pictures, newest = self._pictures()
        for number, action in enumerate(actions):
            if number >= ACTIONS:
                told = f"only {ACTIONS} actions of an answer are run; call the others in the next one"
                yield Result(str(action.get("API_name")), {}, {"error": told}, True)
                return
            yield self.tools.run(action, pictures, newest, cancel)

    def _told(
        self,
        results: list[Result],
        by_hand: bool,
        settings: GenerationSettings | None,
        cancel: threading.Event | None,
        attachment: Any,
    ) -> Reply:
        question = self.question
        if question is None:
            raise DataError("the chat has no question that the tool's output could answer; ask one first")
        text = outputs([(result.tool, result.output) for result in results], question.text)
        pictures = [picture for result in results for picture in result.pictures]
        return self.chat.ask(text, pictures, settings, cancel, Feedback(results, by_hand, attachment))

    def _pictures(self) -> tuple[list[Image.Image], int]:
        """All pictures of the chat, and the number of the last that a person sent: what calls mean by default."""
        pictures: list[Image.Image] = []
        newest = 0
        for turn in self.chat.turns:
            shown = [medium for medium in turn.media if not isinstance(medium, Video)]
            pictures += shown
            if shown and not isinstance(turn.attachment, Feedback):
                newest = len(pictures) - 1
        return pictures, newest


def parts(turn: Turn) -> ToolTurn | None:
    """An answer's thoughts, actions and value; None where it is plain text, or not over."""
    return None if turn.answer is None else parse(turn.answer)


def _actions(turn: Turn) -> list[dict[str, Any]]:
    found = parts(turn) if turn.counts else None
    return found.actions if found is not None else []


def example(card: ToolCard) -> str:
    """What a tool takes, as JSON of one example value for each of its parameters."""
    fields = card.arguments.get("properties", {})
    return json.dumps({name: _example(one) for name, one in fields.items()})


def _example(schema: Mapping[str, Any]) -> Any:
    if schema.get("examples"):
        return schema["examples"][0]
    if "default" in schema:
        return schema["default"]
    if schema.get("type") == "array":
        return [_example(one) for one in schema.get("prefixItems", [])]
    return {"string": "object", "number": 0.0, "integer": 0, "boolean": False}.get(schema.get("type", ""))
