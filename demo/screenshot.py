"""Takes the README's pictures: the real page, real checkpoints, questions typed and answered while one watches.

    python demo/screenshot.py --model runs/quickstart/model --image shapes.png \\
        --question "What color is the shape?" --question "Is it a circle?" --out docs/demo.png

`--panel "What the model saw"` opens that panel at the end. With `--against OTHER` both are asked side by side, and
`--vote "Left is better"` votes.

Needs Chromium (`apt-get install chromium`, or its path in CHROMIUM) and playwright (the extra `dev`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mminstruct.demo.app import reserve, running
from mminstruct.errors import RunError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ProxySettings

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
# Whatever is no page of this computer is asked of a proxy that nobody is.
NOWHERE: ProxySettings = {"server": "http://127.0.0.1:9", "bypass": "127.0.0.1"}
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
    """A headless Chromium that reaches 127.0.0.1 and nothing else."""
    path = find_chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise RunError("playwright is not installed; run: pip install 'mminstruct[dev]'") from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS), proxy=NOWHERE)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True)
class Shot:
    """What is done before the picture is taken.

    Attributes:
        images: the first with the first question, the second with the second, and so on; what is left with the last.
        panel: a panel beside the chat that is opened at the end.
        both: whether two models are asked side by side.
        vote: the button that is clicked at the end; only where `both`.
    """

    questions: Sequence[str]
    images: Sequence[Path] = ()
    panel: str | None = None
    both: bool = False
    vote: str | None = None

    def images_of(self, number: int) -> Sequence[Path]:
        last = number == len(self.questions) - 1
        return self.images[number:] if last else self.images[number : number + 1]


def take(browser: Browser, url: str, shot: Shot, out: Path, size: tuple[int, int], dark: bool) -> list[str]:
    """Ask the questions and save the picture. Returns the answers on the page."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
    )
    context.set_default_timeout(ANSWER_MILLISECONDS)
    view = context.new_page()
    view.goto(url)
    if shot.both:
        view.get_by_role("tab", name="Side by side").click()
    chats = ["#compare-left", "#compare-right"] if shot.both else ["#chat"]
    question = view.locator("#compare-question" if shot.both else "#question")
    box = question.locator("textarea")
    box.wait_for()
    for number, text in enumerate(shot.questions):
        images = shot.images_of(number)
        if images:
            question.locator("input[type=file]").set_input_files([str(image) for image in images])
            question.locator(".thumbnail-item").nth(len(images) - 1).wait_for()
        box.fill(text)
        box.press("Enter")
        for chat in chats:
            view.locator(chat).locator(".bot-row").nth(number).wait_for()
        question.locator(".submit-button").wait_for()
    if shot.vote is not None:
        view.get_by_role("button", name=shot.vote).click()
        view.get_by_text("Your vote is kept").wait_for()
    if shot.panel is not None:
        view.get_by_role("button", name=shot.panel).click()
        view.locator("#seen-view img").first.wait_for()
    view.evaluate("document.activeElement.blur()")
    view.mouse.move(0, 0)
    # Where not all turns fit, the first ones are shown: they hold the images.
    view.wait_for_timeout(500)
    for chat in chats:
        view.locator(chat).locator(".bubble-wrap").evaluate("element => element.scrollTo(0, 0)")
    view.wait_for_function("[...document.images].every(one => one.complete)")
    view.wait_for_timeout(500)
    out.parent.mkdir(parents=True, exist_ok=True)
    view.screenshot(path=out)
    answers = [text for chat in chats for text in view.locator(chat).locator(".bot-row").all_inner_texts()]
    context.close()
    return answers


def main(
    model: Annotated[Path, typer.Option(help="Folder of a checkpoint.")],
    question: Annotated[list[str], typer.Option("--question", "-q", help="A question; may be repeated.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")],
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", "-i", help="An image for the question of the same place; may be repeated."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Name of the model on the page.")] = None,
    against: Annotated[Path | None, typer.Option(help="Folder of another checkpoint, asked side by side.")] = None,
    against_title: Annotated[str | None, typer.Option(help="Its name on the page.")] = None,
    panel: Annotated[str | None, typer.Option(help="A panel to open.")] = None,
    vote: Annotated[str | None, typer.Option(help="A vote to give, as it stands on its button.")] = None,
    instruction: Annotated[str | None, typer.Option(help="As of `mminstruct demo`.")] = None,
    width: int = 1280,
    height: int = 800,
    dark: Annotated[bool, typer.Option("--dark", help="The dark looks.")] = False,
) -> None:
    """Take a picture of the chat page with questions and a checkpoint's answers."""
    import mminstruct
    from mminstruct.serving.chat import Framing
    from mminstruct.serving.generator import Generator
    from mminstruct.serving.models import Models

    engines = {title or model.resolve().name: Generator(*mminstruct.load(model))}
    if against is not None:
        engines[against_title or against.resolve().name] = Generator(*mminstruct.load(against))
    shot = Shot(question, image or [], panel, against is not None, vote)
    with (
        tempfile.TemporaryDirectory() as folder,
        Models(engines) as models,
        running(models, reserve(port=0), Framing(instruction=instruction), votes=Path(folder) / "votes.jsonl") as page,
        chromium() as browser,
    ):
        answers = take(browser, page.url, shot, out, (width, height), dark)
    for answer in answers:
        typer.echo(f"  {answer}")
    typer.echo(f"saved {out}")


if __name__ == "__main__":
    typer.run(main)
