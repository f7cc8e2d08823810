"""docs/liveportrait.md: what it says is here is here."""

from __future__ import annotations

import re
from pathlib import Path

import scripts

from modules.command import parser_of
from modules.config.sid import FramingParams
from modules.world.control.options import REGIONS
from modules.world.control.sliders import SLIDERS

ROOT = Path(__file__).parent.parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/liveportrait.md").read_text().splitlines()
    if line.startswith("|")
]
HERE = " ".join(row[2] for row in ROWS)


def test_options_that_the_table_names_are_options():
    known = {option for action in parser_of()._actions for option in action.option_strings}
    known |= set(re.findall(r"--[a-z_]+", scripts.run(ROOT / "app.py", "--help").stdout))
    named = set(re.findall(r"--[a-z][a-z_-]*", HERE))
    assert len(named) > 25 and named <= known, named - known


def test_regions_sliders_and_framing_are_as_the_table_has_them():
    assert set(re.findall(r"--region (\w+)", HERE)) == set(REGIONS)
    assert f"yes, {len(SLIDERS)}" in [row[1] for row in ROWS]
    (edits,) = re.findall(r'--edit "([^"]+)"', HERE)
    assert {part.partition("=")[0] for part in edits.split(",")} <= set(SLIDERS)
    assert {"size", "above", "upright"} <= set(FramingParams.__dataclass_fields__)


def test_every_row_has_three_cells():
    assert {len(row) for row in ROWS} == {3}
