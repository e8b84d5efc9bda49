"""What the model saw: the processor's own tiles, token counts and prompt, as the generator reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mminstruct
from mminstruct.demo.seen import seen
from mminstruct.demo.seen_view import seen_html
from mminstruct.errors import DataError
from mminstruct.media import Video
from mminstruct.serving.chat import NO_FRAMING, ChatSession, Framing, Turn
from mminstruct.serving.engine import Engine
from mminstruct.serving.generator import Generator
from mminstruct.serving.models import Models
from mminstruct.serving.settings import GenerationSettings


def halves(left: str, right: str, size: tuple[int, int]) -> Image.Image:
    picture = Image.new("RGB", size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture


def test_tiles_are_those_of_the_picture_and_all_tokens_are_counted(two_models: Models) -> None:
    engine = two_models["nano-tiles"]
    chat = ChatSession(engine, Framing(system="Be brief."))
    list(chat.ask("Which <image> colors?", [halves("red", "blue", (128, 128))], GenerationSettings(max_new_tokens=2)))
    found = seen(engine, chat.turns, chat.framing)
    usage = chat.turns[0].usage
    assert usage is not None and found.tokens == usage.prompt_tokens
    (medium,) = found.media
    assert medium.labels == ("whole", "tile 1.1", "tile 1.2", "tile 2.1", "tile 2.2")
    colours = [np.asarray(tile)[30, 30].tolist() for tile in medium.pictures[1:]]
    assert colours == [[255, 0, 0], [0, 0, 255]] * 2
    marks = [(text, count) for text, count in found.prompt if count is not None]
    assert marks == [("<image>", medium.tokens)]
    text = "".join(text for text, count in found.prompt if count is None)
    assert "Be brief." in text and "Which < image> colors?" in text and "<|im_start|>assistant" in text


def test_frames_of_a_video_and_pictures_of_earlier_turns_are_seen(two_models: Models) -> None:
    engine = two_models["nano"]
    frames = tuple(Image.new("RGB", (40, 30), colour) for colour in ("red", "lime"))
    turns = [
        Turn("First?", [Image.new("RGB", (10, 20), "white")], answer="Yes"),
        Turn("Failed", [Image.new("RGB", (10, 20))], answer="", error=RuntimeError("x")),
        Turn("And?", [Video(frames, (0.0, 1.5))]),
    ]
    found = seen(engine, turns, NO_FRAMING)
    assert [medium.name for medium in found.media] == ["image 1", "video 2"]
    assert found.media[1].labels == ("0.0 s", "1.5 s")
    assert [np.asarray(tile)[5, 5].tolist() for tile in found.media[1].pictures] == [[255, 0, 0], [0, 255, 0]]
    assert [count for _, count in found.prompt if count] == [medium.tokens for medium in found.media]


@pytest.mark.parametrize(("row", "shown"), [("llava-onevision-qwen2-0.5b", True), ("qwen2.5-vl-3b", False)])
def test_a_family_of_its_own_shows_what_its_processor_gives(row: str, shown: bool, tmp_path: Path) -> None:
    model, processor = mminstruct.create(row, tiny=True)
    with Generator(model, processor) as generator:
        found = seen(generator, [Turn("Which?", [Image.new("RGB", (50, 40), "blue")])], NO_FRAMING)
    (medium,) = found.media
    assert sum(count for _, count in found.prompt if count) <= medium.tokens  # some families write marks around them
    assert bool(found.together) == shown
    assert all(np.asarray(one)[one.height // 2, one.width // 2].tolist() == [0, 0, 255] for one in found.together)
    assert ("rows of patches" in seen_html(found, tmp_path)) != shown


def test_the_view_escapes_what_it_shows(two_models: Models, tmp_path: Path) -> None:
    turns = [Turn("<script>alert(1)</script>", [Image.new("RGB", (10, 10))])]
    shown = seen_html(seen(two_models["nano"], turns, NO_FRAMING), tmp_path)
    assert "<script>" not in shown and "&lt;script&gt;" in shown
    assert shown.count("<img ") == 1 and 'alt="whole of image 1, as the model sees it"' in shown
    assert len(list(tmp_path.iterdir())) == 1


def test_a_model_elsewhere_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "__abstractmethods__", frozenset())
    with pytest.raises(DataError, match="another server"):
        seen(Engine(), [Turn("?")], NO_FRAMING)  # type: ignore[abstract]
