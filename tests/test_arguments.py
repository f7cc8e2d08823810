"""Command lines: one line for a wrong one, defaults where there are some, and one parser for all scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules.arguments import Parser, number

ROOT = Path(__file__).resolve().parent.parent


def parser() -> Parser:
    made = Parser("what it does")
    made.add_argument("--steps", type=number(int, 1, 9), default=3, help="to take")
    made.add_argument("--cpu", action="store_true", help="do not use a GPU")
    made.add_argument("--out", required=True, help="where to")
    return made


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--out", "x", "--steps", "0"], "argument --steps: 0 is not from 1 to 9"),
        (["--out", "x", "--steps", "y"], "argument --steps: 'y' is not a whole number"),
        (["--out", "x", "--stops=1"], "unrecognized arguments: --stops=1; did you mean --steps?"),
        (["--out", "x", "stray", "--stops", "1"], "unrecognized arguments: stray --stops 1; did you mean --steps?"),
        (["--out", "x", "--nothing"], "unrecognized arguments: --nothing"),
        ([], "the following arguments are required: --out"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(line, said, capsys):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(line)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {said}; --help lists the options\n"


def test_help_tells_defaults_where_there_are_some():
    said = parser().format_help()
    assert "to take (default: 3)" in said
    assert "do not use a GPU\n" in said and "where to\n" in said


def test_every_script_has_this_parser():
    """Another would tell a wrong command line in other words."""
    scripts = [*ROOT.glob("*.py"), *(ROOT / "modules").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    assert not [path.name for path in scripts if "ArgumentParser(" in path.read_text(encoding="utf-8")]
    assert sum("Parser(" in path.read_text(encoding="utf-8") for path in scripts) > 10
