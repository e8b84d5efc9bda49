"""Takes the README's picture: the real page, a real checkpoint, questions typed and answered while one watches.

    python demo/screenshot.py --model runs/quickstart/model --image shapes.png \\
        --question "What color is the shape?" --question "Is it a circle?" --out docs/demo.png

Needs Chromium (`apt-get install chromium`, or its path in CHROMIUM) and playwright (the extra `dev`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mminstruct.demo.app import reserve, running
from mminstruct.errors import RunError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# A root in a container needs --no-sandbox; the others keep the browser from talking to its maker.
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
ANSWER_MILLISECONDS = 300_000


def find_chromium() -> str:
    """Chromium's path. Raises `RunError` where there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None or not Path(found).is_file():
        raise RunError(
            f"no Chromium was found ({found or 'none on PATH'}); run: apt-get install chromium, "
            f"or set CHROMIUM to the path of one"
        )
    return found


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium."""
    path = find_chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise RunError("playwright is not installed; run: pip install 'mminstruct[dev]'") from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def take(
    browser: Browser,
    url: str,
    images: Sequence[Path],
    questions: Sequence[str],
    out: Path,
    size: tuple[int, int],
    dark: bool,
) -> list[str]:
    """Ask the questions, the images with the first one, and save the picture. Returns the answers on the page."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
    )
    view = context.new_page()
    view.goto(url)
    box = view.locator("#question textarea")
    box.wait_for()
    if images:
        view.locator("#question input[type=file]").set_input_files([str(image) for image in images])
        view.locator("#question .thumbnail-item").nth(len(images) - 1).wait_for()
    for number, question in enumerate(questions):
        box.fill(question)
        box.press("Enter")
        view.get_by_test_id("bot").nth(number).wait_for(timeout=ANSWER_MILLISECONDS)
        view.locator(".submit-button").wait_for(timeout=ANSWER_MILLISECONDS)
    box.blur()
    view.mouse.move(0, 0)
    # Where not all turns fit, the first ones are shown: they hold the images.
    view.wait_for_timeout(500)
    view.locator("#chat .bubble-wrap").evaluate("element => element.scrollTo(0, 0)")
    view.wait_for_timeout(200)
    out.parent.mkdir(parents=True, exist_ok=True)
    view.screenshot(path=out)
    answers = view.get_by_test_id("bot").all_inner_texts()
    context.close()
    return answers


def main(
    model: Annotated[Path, typer.Option(help="Folder of a checkpoint.")],
    question: Annotated[list[str], typer.Option("--question", "-q", help="A question; may be repeated.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")],
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="An image for the first question; may be repeated.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Name of the model on the page.")] = None,
    instruction: Annotated[str | None, typer.Option(help="As of `mminstruct demo`.")] = None,
    width: int = 1100,
    height: int = 800,
    dark: Annotated[bool, typer.Option("--dark", help="The dark looks.")] = False,
) -> None:
    """Take a picture of the chat page with questions and a checkpoint's answers."""
    import mminstruct
    from mminstruct.serving.chat import Framing
    from mminstruct.serving.generator import Generator
    from mminstruct.serving.models import Models

    with (
        Models({title or model.resolve().name: Generator(*mminstruct.load(model))}) as models,
        running(models, reserve(port=0), Framing(instruction=instruction)) as page,
        chromium() as browser,
    ):
        answers = take(browser, page.url, image or [], question, out, (width, height), dark)
    for asked, answer in zip(question, answers, strict=True):
        typer.echo(f"{asked}\n  {answer}")
    typer.echo(f"saved {out}")


if __name__ == "__main__":
    typer.run(main)
