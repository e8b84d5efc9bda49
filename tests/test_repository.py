"""The promises of the repository as a whole: light imports, floors, one wheel package, short files, true links.

Nothing here knows a module by heart: the tests walk the tree, so a new file is held to them the day it is added.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "mminstruct"
CONTENT = ("model_zoo", "data_builders", "train", "eval", "demo")
SOURCES = ("mminstruct", *CONTENT, "tests", "benchmarks")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# The floors of docs/architecture.md, low to high; a room imports from lower floors only. Its floor 0 stands in three
# steps here, because `files` and `config` use `errors`. `mminstruct` is the package's own front door, `__main__` its
# back door.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("files",),
    ("catalog", "config"),
    ("media",),
    ("conversation",),
    ("formats", "chat_template", "evidence"),
    ("models",),
    ("data", "building", "selection"),
    ("training", "evaluation", "serving", "inspection"),
    ("cli",),
    ("mminstruct", "__main__"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def identifier(path: Path) -> str:
    return str(path.relative_to(ROOT))


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# --- imports stay light -----------------------------------------------------------------------------------------------

HEAVY = ("torch", "transformers", "timm", "open_clip", "gradio", "deepspeed", "peft", "accelerate", "numpy", "PIL")


@pytest.mark.parametrize(("module", "most"), [("mminstruct", 60), ("mminstruct.cli", 600)])
def test_import_is_light(module: str, most: int) -> None:
    """Importing the package or its command line loads no heavy library; `most` counts the modules it adds."""
    code = f"import sys; before = set(sys.modules); import {module}; print(*sorted(set(sys.modules) - before))"
    added = run(sys.executable, "-c", code).split()
    assert not [name for name in added if name.split(".")[0] in HEAVY]
    assert len(added) <= most


def test_help_answers_within_half_a_second() -> None:
    """Counted in processor time, best of five, so that busy neighbours (other test workers) do not count."""
    if not hasattr(os, "wait4"):
        pytest.skip("this system does not report a child's processor time")
    seconds = []
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-m", "mminstruct", "--help"], stdout=subprocess.DEVNULL, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        seconds.append(usage.ru_utime + usage.ru_stime)
    assert min(seconds) <= 0.5


# --- floors -----------------------------------------------------------------------------------------------------------


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Each `mminstruct` module that a file imports anywhere, inside functions too: (line, absolute dotted name)."""
    package = list(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            found = [f"{start}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in found if name.split(".")[0] == "mminstruct")


def room_of(name: str) -> str:
    """The room that a dotted name lies in; a name that is no module of the package belongs to its front door."""
    _, _, rest = name.partition(".")
    room = rest.split(".")[0]
    is_module = (LIBRARY / f"{room}.py").is_file() or (LIBRARY / room).is_dir()
    return room if room and is_module else "mminstruct"


def room_of_file(path: Path) -> str:
    first = path.relative_to(LIBRARY).parts[0]
    return "mminstruct" if first == "__init__.py" else first.removesuffix(".py")


@pytest.mark.parametrize("path", python_files("mminstruct"), ids=identifier)
def test_imports_run_downwards(path: Path) -> None:
    room = room_of_file(path)
    assert room in FLOOR, f"the room {room!r} has no floor yet: give it one in FLOORS and in docs/architecture.md"
    for line, name in imported_modules(path):
        other = room_of(name)
        where = f"{identifier(path)}:{line} imports {name}"
        assert other not in CONTENT and name.split(".")[1:2] != ["tests"], f"{where}: the library names no content"
        if other == room or name == "mminstruct.__version__":
            continue
        assert other in FLOOR and FLOOR[other] < FLOOR[room], f"{where}: from {room!r} up or sideways to {other!r}"


def test_only_the_catalog_names_the_content_packages() -> None:
    content = re.compile(rf"mminstruct\.({'|'.join(CONTENT)})(\.\w+)*")
    for path in python_files("mminstruct"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and content.fullmatch(node.value):
                assert path.name == "catalog.py", f"{identifier(path)}:{node.lineno} names {node.value}; ask catalog"


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", python_files(*SOURCES), ids=identifier)
def test_file_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600


@pytest.mark.parametrize("path", python_files("mminstruct"), ids=identifier)
def test_library_logs_and_does_not_print(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not calls, f"print( on lines {calls}: use logging, or typer.echo in a command"


# --- the wheel --------------------------------------------------------------------------------------------------------

# What people read or run in a checkout only; everything else in the packaged folders has to be in the wheel.
CHECKOUT_ONLY = {".md", ".sh", ".slurm", ".pyc"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names in a wheel built from a copy of the tree, so that setuptools leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("mminstruct", *CONTENT):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    run(sys.executable, "-c", "from setuptools.build_meta import build_wheel; build_wheel('dist')", cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_wheel_installs_one_package(wheel: list[str]) -> None:
    assert {name.split("/")[0] for name in wheel if ".dist-info/" not in name} == {"mminstruct"}


def test_wheel_holds_the_whole_house(wheel: list[str]) -> None:
    """Each file of the library and of the content folders, at its place below `mminstruct`."""
    expected = set()
    for folder in ("mminstruct", *CONTENT):
        for path in (ROOT / folder).rglob("*"):
            hidden = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT).parts)
            if path.is_file() and not hidden and path.suffix not in CHECKOUT_ONLY:
                inside = path.relative_to(ROOT).as_posix()
                expected.add(inside if folder == "mminstruct" else f"mminstruct/{inside}")
    missing = sorted(expected - set(wheel))
    assert not missing, f"add them to [tool.setuptools] packages or package-data in pyproject.toml: {missing}"


# --- pages ------------------------------------------------------------------------------------------------------------

PAGES = sorted([*ROOT.glob("*.md"), *(path for name in (*SOURCES, "docs") for path in (ROOT / name).rglob("*.md"))])
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"")


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_relative_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:|#", target):
            continue
        assert (page.parent / target.partition("#")[0]).exists(), f"{identifier(page)} links to {target}"


# --- machinery --------------------------------------------------------------------------------------------------------


def locked() -> dict[str, str]:
    """Distribution name to requirement line; what holds for some Pythons or systems only may stand twice."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return {normal(re.split("[= ;]", line)[0]): line for line in lines if line and not line.startswith("#")}


def normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def test_lock_pins_versions_and_names_no_place() -> None:
    lock = locked()
    assert "mminstruct" not in lock
    for line in lock.values():
        assert re.fullmatch(r"[a-z0-9.-]+==[0-9][a-z0-9.]*( ; .+)?", line), f"not a plain pinned version: {line}"


def test_lock_knows_every_dependency() -> None:
    project = PROJECT["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    names = {normal(re.split(r"[\s<>=!~;\[]", item)[0]) for item in wanted} - {"mminstruct"}
    assert names <= set(locked()), "pyproject.toml has new dependencies: run make lock"


@pytest.mark.parametrize("script", sorted((ROOT / ".ci").iterdir()), ids=identifier)
def test_script_parses(script: Path) -> None:
    shell = "bash" if "bash" in script.read_text(encoding="utf-8").splitlines()[0] else "sh"
    run(shell, "-n", script)
    assert os.access(script, os.X_OK)


def test_make_lists_its_targets() -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    listed = run("make", "--no-print-directory", "help")
    for target in re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[
        0
    ].split():
        assert f"make {target} " in listed


def test_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text and len(text) == 11358
