"""The evaluation as one HTML file with its pictures and plots inside, and as tables on the screen."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import matplotlib
from torch import Tensor

from .. import media
from ..atomic import write_text
from ..world import ACTION_UNITS, IDENTITY
from .bootstrap import Difference
from .metrics import Figures
from .output import table

STYLE = """body { font: 15px/1.5 system-ui, sans-serif; max-width: 80em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em .7em; text-align: right }
td:first-child { text-align: left } tr:nth-child(even) { background: #f2f2f2 } img { max-width: 100% }"""
CONFIDENCE = "in brackets: where the mean lies with 95 % confidence"
UNITS = "PSNR in dB, pose in degrees, landmarks in distances of the pupils seen from the front"
METER_TITLE = f"the measuring network's own error, on perfect pictures of unseen people ({UNITS})"
Section = tuple[str, list[str], list[list[str]]]  # title, header and rows of a table


def headline(figures: Figures) -> Figures:
    """The figures that are not of a single action unit or identity parameter."""
    return {name: value for name, value in figures.items() if name not in ACTION_UNITS and name not in IDENTITY}


def sections(figures: dict[str, Any]) -> list[Section]:
    """All tables of an evaluation, for the screen and for the report."""
    found, sure = [], figures["intervals"]
    for title, what in (("reenactment", "cross-reenactment"), ("parts", "expression or pose alone")):
        if title in figures:
            found.append((f"{what}, means over pairs ({UNITS})", *cells(figures[title])))
            apart = _differences(figures["differences"][title])
            found.append((f"{what}, differences pair by pair ({CONFIDENCE})", *apart))
    for who, rows in figures.get("disentanglement", {}).items():
        title = f"{who}: rank-1 retrieval, and R2 of linear probes, on unseen people ({CONFIDENCE})"
        found.append((title, *cells(rows, sure[who])))
    found.append((METER_TITLE, *cells({"measuring network": figures["meter"]["summary"]})))
    return found


def cells(
    rows: dict[str, Figures], sure: dict[str, dict[str, tuple]] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table, with intervals if given; what a row lacks is left empty."""
    columns = list(dict.fromkeys(column for figures in rows.values() for column in headline(figures)))

    def cell(row: str, column: str) -> str:
        if column not in rows[row]:
            return ""
        value = f"{rows[row][column]:.3f}"
        return value if sure is None else "{} [{:.2f}, {:.2f}]".format(value, *sure[row][column])

    return ["", *columns], [[row, *(cell(row, column) for column in columns)] for row in rows]


def _differences(rows: dict[str, dict[str, Difference]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of them."""
    columns = list(next(iter(rows.values())))
    return ["", *columns], [
        [row, *("{:+.3f} [{:+.3f}, {:+.3f}]".format(values[name][0], *values[name][1]) for name in columns)]
        for row, values in rows.items()
    ]


def left_out(figures: dict[str, Any]) -> str:
    """A line about what the means are not over, or nothing."""
    names = figures.get("without spread")
    return f"left out of the means, being alike in all pictures tested: {', '.join(names)}" if names else ""


def tables(figures: dict[str, Any]) -> str:
    """What is printed."""
    lines = []
    for title, header, rows in sections(figures):
        lines += ["", title, table(header, rows)]
    return "\n".join([*lines, left_out(figures)]).rstrip()


def write_report(folder: Path, figures: dict[str, Any], sheet: Tensor) -> None:
    """SID's page; ``sheet [3, H, W]`` shows source, driver, truth and results."""
    parts = [f"<p>{html.escape(left_out(figures))}</p>"]
    if "disentanglement" in figures:
        found, own = figures["disentanglement"], figures["meter"]
        probes = {who: rows["z_sem"] for who, rows in found.items()}
        parts += ["<h2>R2 per action unit, of a linear probe on z_sem</h2>"]
        parts.append(plot(probes | {"measuring network": own["action units, R2"]}, ACTION_UNITS))
        probes = {who: rows["z_id"] for who, rows in found.items()}
        parts += ["<h2>R2 per identity parameter, of a linear probe on z_id</h2>"]
        parts.append(plot(probes | {"measuring network": own["identity parameters, R2"]}, IDENTITY))
    legend = "source | driver | truth | each mode in the table's order"
    write_page(folder, "SID against the truth of the face world", sections(figures), (sheet, legend), parts)


def write_page(folder: Path, heading: str, shown: list[Section], sheet: tuple[Tensor, str], parts: list[str]) -> None:
    """Write ``report.html`` and ``sheet.png``: the first table, the picture with its legend, the others, ``parts``."""
    image, legend = sheet
    media.write_image(folder / "sheet.png", (image.permute(1, 2, 0) * 255).round().byte().numpy())
    picture = [f"<p>{html.escape(legend)}</p>", '<img src="sheet.png" alt="pictures of what was measured">']
    lines = [f"<h1>{html.escape(heading)}</h1>"]
    for number, (title, header, rows) in enumerate(shown):
        lines += [f"<h2>{html.escape(title[0].upper() + title[1:])}</h2>", _table(header, rows)]
        lines += picture if number == 0 else []
    body = "\n".join([*lines, *parts])
    head = f'<meta charset="utf-8"><title>{html.escape(heading)}</title><style>{STYLE}</style>'
    write_text(folder / "report.html", f'<!doctype html><html lang="en">{head}{body}</html>')


def _table(header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def plot(found: dict[str, Figures], names: tuple[str, ...]) -> str:
    """Bars from 0 to 1 by name, everybody's beside each other, as an inline picture; what is not known has no bar."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(12, 3.6))
    width = 0.8 / len(found)
    for i, (who, values) in enumerate(found.items()):
        places = [x + i * width for x in range(len(names))]
        axes.bar(places, [max(values.get(name, 0), 0) for name in names], width, label=who)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_ylim(0, 1)
    axes.legend()
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    pyplot.close(figure)
    return f'<img src="data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}" alt="bars by name">'
