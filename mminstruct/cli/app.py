"""The `mminstruct` command: its sub-commands, and the one place where errors become one line and exit code 2.

Exit codes: 0 done, 1 a bug (traceback), 2 something the user can mend (one line on stderr), 130 interrupted (Ctrl-C),
143 terminated (SIGTERM).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import typer

from mminstruct.cli import data, zoo
from mminstruct.cli.build import build
from mminstruct.cli.chat import chat
from mminstruct.cli.demo import demo
from mminstruct.cli.eval import evaluate
from mminstruct.cli.plot import plot
from mminstruct.cli.quickstart import quickstart
from mminstruct.cli.score import score
from mminstruct.cli.serve import serve
from mminstruct.cli.train import train
from mminstruct.errors import Interrupted, MminstructError

app = typer.Typer(
    name="mminstruct",
    help="Build data for, train, evaluate and chat with visual instruction-tuned models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("quickstart")(quickstart)
app.command("build")(build)
app.add_typer(data.app, name="data")
app.add_typer(zoo.app, name="zoo")
app.command("train")(train)
app.command("plot")(plot)
app.command("eval")(evaluate)
app.command("score")(score)
app.command("chat")(chat)
app.command("demo")(demo)
app.command("serve")(serve)


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of errors and the debug log."),
) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("mminstruct").setLevel(logging.DEBUG if debug else logging.INFO)
    # On import DeepSpeed warns on stdout, between a command's results, that there is no GPU; `env.json` says so anyway.
    logging.getLogger("DeepSpeed").addFilter(lambda record: debug or record.filename != "real_accelerator.py")
    # On import, on some CPUs, bitsandbytes warns that a faster 4-bit product is missing, which nothing here does there.
    logging.getLogger("bitsandbytes").setLevel(logging.DEBUG if debug else logging.ERROR)


def main() -> None:
    """Entry point of `mminstruct`."""
    run_command(app)


def run_command(command: Callable[[], object]) -> None:
    """Call a command; a `MminstructError` becomes one line and exit code 2 (`--debug` keeps the traceback)."""
    try:
        command()
    except MminstructError as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(2)
    except Interrupted as stop:
        typer.echo(f"interrupted: {stop}", err=True)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
