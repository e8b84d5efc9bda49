"""ChatSession: several turns and images, partial answers kept, failed turns left out, undo, retry, reset."""

from __future__ import annotations

import threading

import pytest
from PIL import Image

from mminstruct.conversation import ImagePart
from mminstruct.errors import DataError
from mminstruct.models.processor import Processor
from mminstruct.models.vlm import VisionLanguageModel
from mminstruct.serving.chat import ChatSession, Framing, Turn, conversation_of
from mminstruct.serving.generator import Generator
from mminstruct.serving.settings import GenerationSettings, Limits

SHORT = GenerationSettings(max_new_tokens=10)
LONG = GenerationSettings(max_new_tokens=1500)


def picture(width: int) -> Image.Image:
    return Image.new("RGB", (width, 40), "blue")


def test_turns_become_one_record_with_images_in_order() -> None:
    first, second, third = picture(10), picture(20), picture(30)
    turns = [
        Turn("Two of them?", [first, second], answer=" Yes. "),
        Turn("And now?", answer=""),
        Turn("lost", [picture(99)], answer="so f", error=RuntimeError("broke")),
        Turn("This one?", [third]),
    ]
    conversation, images = conversation_of(turns, Framing("Be brief.", "Answer with one word."))
    assert [message.role for message in conversation.messages] == [
        "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert [message.text for message in conversation.messages] == [
        "Be brief.", "Answer with one word.\n\nTwo of them?", "Yes.", "And now?", "", "This one?",
    ]  # fmt: skip
    assert images == [first, second, third]
    places = [part.index for m in conversation.messages for part in m.content if isinstance(part, ImagePart)]
    assert places == [0, 1, 2]
    assert [(m.width, m.height) for m in conversation.media] == [(10, 40), (20, 40), (30, 40)]


def test_several_turns_with_images_in_each(generator: Generator) -> None:
    chat = ChatSession(generator)
    first = "".join(chat.ask("What is it?", [picture(10), picture(20)], SHORT))
    read = chat.turns[0].usage.prompt_tokens
    second = "".join(chat.ask("And this?", [picture(30)], SHORT))
    assert [turn.answer for turn in chat.turns] == [first, second]
    assert chat.turns[1].usage.media == 3
    assert chat.turns[1].usage.prompt_tokens > read + 10


def test_a_stopped_answer_stays_as_far_as_it_came(generator: Generator) -> None:
    chat = ChatSession(generator)
    cancel = threading.Event()
    seen = []
    for delta in chat.ask("Tell me everything.", [], LONG, cancel):
        seen.append(delta)
        if len(seen) == 5:
            cancel.set()
    turn = chat.turns[0]
    assert turn.answer == "".join(seen)
    assert turn.counts and turn.usage.finish_reason == "cancelled"
    assert "".join(chat.ask("Go on.", [], SHORT))
    conversation, _ = conversation_of(chat.turns)
    assert conversation.messages[1].text == turn.answer.strip()


def test_a_closed_iterator_keeps_the_part_that_was_read(generator: Generator) -> None:
    chat = ChatSession(generator)
    stream = chat.ask("Tell me everything.", [], LONG)
    part = next(stream) + next(stream)
    stream.close()
    assert chat.turns[0].answer == part
    assert chat.turns[0].error is None


def test_an_answer_does_not_begin_with_white_space(generator: Generator) -> None:
    chat = ChatSession(generator)
    answer = "".join(chat.ask("Hello?", [], SHORT))
    assert answer == answer.lstrip() == chat.turns[0].answer


def test_a_failed_turn_is_kept_for_a_retry_and_hidden_from_the_model(generator: Generator) -> None:
    chat = ChatSession(generator)
    list(chat.ask("Fine?", [], SHORT))
    with pytest.raises(DataError, match="tokens"):
        list(chat.ask("much too long " * 3000, [], SHORT))
    assert isinstance(chat.turns[1].error, DataError)
    assert not chat.turns[1].counts
    list(chat.ask("Short again?", [], SHORT))
    conversation, _ = conversation_of(chat.turns)
    assert [m.text for m in conversation.messages if m.role == "user"] == ["Fine?", "Short again?"]


def test_retry_answers_the_last_question_again(generator: Generator) -> None:
    chat = ChatSession(generator)
    image = picture(10)
    first = "".join(chat.ask("What is it?", [image], SHORT, attachment="mine"))
    again = "".join(chat.retry(SHORT))
    assert first == again
    assert len(chat.turns) == 1
    assert chat.turns[0].media == [image] and chat.turns[0].attachment == "mine"


def test_an_earlier_question_in_other_words_keeps_its_pictures_and_drops_what_followed(generator: Generator) -> None:
    chat = ChatSession(generator)
    seen = [picture(10)]
    for question, media in (("One?", seen), ("Two?", []), ("Three?", [])):
        list(chat.ask(question, media, SHORT, attachment=question))
    again = "".join(chat.edit(0, "One, really?", SHORT))
    (turn,) = chat.turns
    assert (turn.text, turn.media, turn.attachment, turn.answer) == ("One, really?", seen, "One?", again)
    fresh = ChatSession(generator)
    assert "".join(fresh.ask("One, really?", seen, SHORT)) == again
    with pytest.raises(DataError, match="none of number 2"):
        chat.edit(1, "?")
    list(chat.ask("Two?", [], SHORT))
    with pytest.raises(DataError, match="empty"):
        chat.edit(1, " ")
    assert [one.text for one in chat.turns] == ["One, really?", "Two?"]


def test_a_reply_can_be_waited_for_a_while(model_and_processor: tuple[VisionLanguageModel, Processor]) -> None:
    with Generator(*model_and_processor, Limits(batch=1)) as generator:
        chat = ChatSession(generator)
        first = generator.stream(*conversation_of([Turn("Tell me everything.")]), LONG)
        next(first)
        reply = chat.ask("And me?", [], SHORT)
        assert reply.wait(0.05) is None and not reply.ended
        assert reply.position == 1
        first.close()
        pieces = []
        while not reply.ended:
            pieces.append(reply.wait(1.0) or "")
    assert "".join(pieces) == chat.turns[0].answer


def test_undo_and_reset(generator: Generator) -> None:
    chat = ChatSession(generator)
    list(chat.ask("One?", [], SHORT))
    list(chat.ask("Two?", [], SHORT))
    taken = chat.undo()
    assert taken is not None and taken.text == "Two?"
    assert [turn.text for turn in chat.turns] == ["One?"]
    chat.reset()
    assert chat.turns == [] and chat.undo() is None
    with pytest.raises(DataError, match="no question"):
        chat.retry()


def test_what_streams_into_a_chat_that_was_reset_belongs_to_no_chat(generator: Generator) -> None:
    chat = ChatSession(generator)
    stream = chat.ask("Old?", [], GenerationSettings(max_new_tokens=200))
    next(stream)
    chat.reset()
    list(stream)
    list(chat.ask("New?", [], SHORT))
    assert [turn.text for turn in chat.turns] == ["New?"]


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_question_is_refused(generator: Generator, text: str) -> None:
    chat = ChatSession(generator)
    with pytest.raises(DataError, match="empty"):
        chat.ask(text)
    assert chat.turns == []
    list(chat.ask(text, [picture(10)], SHORT))
    assert chat.turns[0].usage.media == 1
