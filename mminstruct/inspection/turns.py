"""What is wrong with a conversation by its own record: its turns, options, preference and evidence.

conversation ──▶ (code of `findings.KINDS`, what is wrong), ...
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence

from mminstruct.conversation import Conversation, Message, TextPart
from mminstruct.errors import DataError
from mminstruct.evidence.facts import facts_of


def problems(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """Everything that the record alone shows."""
    turns = conversation.messages
    if (problem := _order(conversation)) is not None:
        yield "turn-order", problem
    for number, message in enumerate(turns):
        if not _says(message):
            yield _empty(message), f"turn {number} of {len(turns)} ({message.role}) has neither text nor media"
    if conversation.preference is not None:
        yield from _preference(conversation)
    if (problem := _options(conversation)) is not None:
        yield "options", problem
    try:
        facts_of(conversation)
    except DataError as error:
        yield "facts", str(error)


def _says(message: Message) -> bool:
    return any(part.text.strip() if isinstance(part, TextPart) else True for part in message.content)


def _empty(message: Message) -> str:
    return "empty-answer" if message.role == "assistant" else "empty-turn"


def _order(conversation: Conversation) -> str | None:
    """Systems first, then user and assistant in turn, what tools say behind an assistant; an answer is the last."""
    roles = [message.role for message in conversation.messages]
    spoken = [role for role in roles if role != "system"]
    if not spoken:
        return "there is no turn but of the system"
    if "system" in roles[len(roles) - len(spoken) :]:
        return "a turn of the system stands behind others"
    if spoken[0] != "user":
        return f"the first turn is the {spoken[0]}'s, not the user's"
    for number, (before, role) in enumerate(itertools.pairwise(spoken), start=1):
        follows = {"user": ("assistant",), "assistant": ("user", "tool"), "tool": ("tool", "assistant")}[before]
        if role not in follows:
            return f"turn {number} behind the system's is the {role}'s, behind one of the {before}'s"
    # Pairs hold their answers apart, and questions of a benchmark in `answers`.
    if spoken[-1] != "assistant" and conversation.preference is None and not conversation.answers:
        return f"the last turn is the {spoken[-1]}'s, so nothing is to be learnt from it"
    return None


def _preference(conversation: Conversation) -> Iterator[tuple[str, str]]:
    assert conversation.preference is not None
    sides = {"chosen": conversation.preference.chosen, "rejected": conversation.preference.rejected}
    for name, said in sides.items():
        if not said or not all(_says(message) for message in said):
            yield "empty-answer", f"the {name} continuation has a turn with neither text nor media, or none"
    if _normal(sides["chosen"]) == _normal(sides["rejected"]):
        yield "preference", f"chosen and rejected are both {_cut(sides['chosen'])!r}"


def _cut(said: Sequence[Message]) -> str:
    return " ".join(message.text for message in said)[:60]


def _options(conversation: Conversation) -> str | None:
    options = conversation.options
    if not options:
        return None
    names = {option.strip().casefold() for option in options}
    letters = {chr(ord("a") + number) for number in range(min(len(options), 26))}
    if conversation.answers is not None:
        for answer in conversation.answers:
            if answer.strip().casefold() not in names and answer.strip(" ().").casefold() not in letters:
                return f"the answer {answer[:60]!r} is none of the options {', '.join(map(repr, options))[:120]}"
        return None
    last = next((one.text for one in reversed(conversation.messages) if one.role == "assistant"), None)
    if last is None:
        return None
    said = last.strip().casefold()
    if any(name in said for name in names) or said[:3].strip(" ().:") in letters:
        return None
    return f"the answer {last.strip()[:60]!r} holds none of the options {', '.join(map(repr, options))[:120]}"


def fingerprint(conversation: Conversation) -> bytes:
    """Sixteen bytes that are equal for conversations of the same turns and media, white space aside."""
    sides = conversation.preference
    said = [*conversation.messages, *(sides.chosen if sides else ()), *(sides.rejected if sides else ())]
    parts = [*_normal(said), *(medium.sha256 or medium.path for medium in conversation.media)]
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _normal(said: Sequence[Message]) -> list[str]:
    return [
        f"{message.role}:"
        + "\x1e".join(
            " ".join(part.text.split()) if isinstance(part, TextPart) else f"\x1d{part.index}"
            for part in message.content
        )
        for message in said
    ]
