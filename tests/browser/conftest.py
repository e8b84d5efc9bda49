"""One browser and one running page for all: two small models whose answers are as long as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, BrowserContext

from tests.browser.audit import Watch


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

    def new_context(size: tuple[int, int] = (1280, 900), dark: bool = False) -> BrowserContext:
        context = chrome.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            has_touch=size[0] < 640,
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

    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            picture = Image.new("RGB", (64, 48), (30 * number, 0, 0))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return path
