"""One browser and one running page for all: two small models whose answers are as long as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, BrowserContext

import mminstruct
from mminstruct.demo.app import reserve, running
from mminstruct.demo.page import Page
from mminstruct.models.factory import read_row
from mminstruct.serving.generator import Generator
from mminstruct.serving.models import Models
from mminstruct.serving.settings import Limits
from tests.browser.audit import DESKTOP, PHONE, Watch
from tests.browser.chat_page import ChatPage

MAX_FILE_SIZE = 200_000  # bytes of one upload
LONG = 40_000  # tokens of an answer that nobody waits for

OpenPage = Callable[..., ChatPage]


def endless(seed: int) -> Generator:
    """A random tiny model that answers one at a time, with exactly as many tokens as it is asked for."""
    torch.manual_seed(seed)
    row = read_row("nano")[0].model_dump(mode="json")
    row["language_model"]["architecture"]["max_position_embeddings"] = 50_000
    model, processor = mminstruct.create(row)
    # Without its end marks among the choices, an answer goes on for as long as it may.
    config = model.generation_config
    config.suppress_tokens = [*config.suppress_tokens, *config.eos_token_id]
    return Generator(model, processor, Limits(batch=1))


@pytest.fixture(scope="session")
def models() -> Iterator[Models]:
    with Models({"first": endless(0), "second": endless(1)}) as models:
        yield models


@pytest.fixture(scope="session")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of votes."""
    return tmp_path_factory.mktemp("votes") / "votes.jsonl"


@pytest.fixture(scope="session")
def served(models: Models, votes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    flags = tmp_path_factory.mktemp("flags")
    with running(models, reserve(port=0), max_file_size=MAX_FILE_SIZE, flags=flags, votes=votes) as page:
        yield page


@pytest.fixture(scope="session")
def watch() -> Iterator[Watch]:
    """Over the whole session: no page asked anything of another computer."""
    watch = Watch()
    yield watch
    assert watch.elsewhere == []


@pytest.fixture
def new_context(chrome: Browser, watch: Watch) -> Iterator[Callable[..., BrowserContext]]:
    """Opens contexts of given `size` and `dark`; at the end none has complained or asked for anything elsewhere."""
    opened: list[BrowserContext] = []
    watch.complaints.clear()

    def new_context(size: tuple[int, int] = DESKTOP, dark: bool = False) -> BrowserContext:
        context = chrome.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            has_touch=size == PHONE,
            accept_downloads=True,
        )
        context.set_default_timeout(30_000)
        watch.over(context)
        opened.append(context)
        return context

    yield new_context
    for context in opened:
        context.close()
    assert watch.elsewhere == []
    assert watch.complaints == []


@pytest.fixture
def open_page(new_context: Callable[..., BrowserContext], served: Page, models: Models) -> Iterator[OpenPage]:
    """Opens the demo in a browser of its own, of given `size` and `dark`; afterwards no model answers any more."""
    yield lambda **looks: ChatPage(new_context(**looks).new_page(), served.url)
    for engine in models.values():
        assert engine.running == engine.waiting == 0


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A red disk of 160 x 120 pixels and a blue square of 90 x 90."""
    folder = tmp_path_factory.mktemp("pictures")
    disk, square = Image.new("RGB", (160, 120), "white"), Image.new("RGB", (90, 90), "navy")
    ImageDraw.Draw(disk).ellipse((40, 20, 120, 100), fill=(200, 40, 40))
    paths = [folder / "disk.png", folder / "square.jpg"]
    for path, picture in zip(paths, (disk, square), strict=True):
        picture.save(path)
    return paths


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of one second that grows from black to red."""
    import av

    path = tmp_path_factory.mktemp("video") / "clip.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=8)  # a codec that Chromium plays
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            picture = Image.new("RGB", (64, 48), (30 * number, 0, 0))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path
