"""The house stays as it is drawn: imports run one way, without circles, and what is installed is what is there."""

from __future__ import annotations

import ast
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "modules"
# Rooms by floor: each imports from those below it alone; files of the package's top are rooms of their own.
FLOORS = (
    {
        "errors",
        "atomic",
        "arguments",
        "devices",
        "bundled",
        "geometry",
        "contrast",
        "progress",
        "storage",
        "digest",
        "loopback",
    },
    {"config", "media"},
    {"faces", "mark"},
    {"world"},
    {"training", "data", "options", "batch"},
    {"sid"},
    {"mef"},
    {"evaluation"},
    {"recipe", "app", "live", "command"},
)
LONGEST = 350  # lines of a file


def modules() -> dict[str, Path]:
    """Dotted names below the package -> files; a package's own name is its ``__init__``'s."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that a module imports, at its top or later."""
    package = path.relative_to(PACKAGE).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            where = ".".join(part for part in base if part)
            for alias in node.names:
                inside = f"{where}.{alias.name}" if where else alias.name
                found.add(inside if inside in known else where)
    return found - {name}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(name, path, known) for name, path in known.items()}


def test_imports_have_no_circle(graph):
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_imports_run_down_the_house(graph):
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    upward = []
    for name, used in graph.items():
        for other in used:
            room, below = name.partition(".")[0], other.partition(".")[0]
            if not name or room == below:  # the package's own names are its rooms'
                continue
            is_ground = floor[room] == floor[below] == 0
            if floor[below] >= floor[room] and not is_ground:
                upward.append(f"{name} -> {other}")
    assert not upward


def test_no_file_names_the_package_that_it_is_in():
    """In a checkout it is called ``modules``, installed ``deepexpr``."""
    named = []
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            named += [f"{path}: {n}" for n in names if n.partition(".")[0] in ("modules", "deepexpr")]
    assert not named


def test_files_are_short_enough_to_be_read():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values()}
    assert not {str(path): count for path, count in lengths.items() if count > LONGEST}


def test_every_package_and_every_bundled_folder_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py")}
    packages = {".".join(("deepexpr", *folder.parts)) for folder in folders}
    beside = ("config", "recipes", "Face_Checkpoints", "Inputs", "MEF_Checkpoints", "SID_Checkpoints")
    bundled = {f"deepexpr.bundled.{name}" for name in beside}
    assert listed == packages | bundled
    places = project["tool"]["setuptools"]["package-dir"]
    assert all((ROOT / place).is_dir() for place in places.values())
