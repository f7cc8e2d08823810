"""The evaluation as one HTML file with its pictures and plots inside."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import matplotlib
from torch import Tensor

from modules import media
from modules.atomic import write_text
from modules.data.synthetic import ACTION_UNITS
from modules.evaluation.metrics import Figures

STYLE = """body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em .7em; text-align: right }
td:first-child { text-align: left } tr:nth-child(even) { background: #f2f2f2 } img { max-width: 100% }"""


def write_report(folder: Path, figures: dict[str, Any], sheet: Tensor) -> None:
    """Write ``report.html`` and ``sheet.png``; ``sheet [3, H, W]`` shows source, driver, truth and results."""
    picture = (sheet.permute(1, 2, 0) * 255).round().byte().numpy()
    media.write_image(folder / "sheet.png", picture)
    parts = ["<h1>SID against the truth of the face world</h1>", "<h2>Cross-reenactment</h2>"]
    parts += [_table(figures["reenactment"]), "<p>source | driver | truth | each mode in the table's order</p>"]
    parts.append('<img src="sheet.png" alt="source, driver, truth and results">')
    if "parts" in figures:
        parts += ["<h2>Expression or pose alone</h2>", _table(figures["parts"])]
    for who, found in figures.get("disentanglement", {}).items():
        shown = {name: {k: v for k, v in row.items() if k not in ACTION_UNITS} for name, row in found.items()}
        parts += [f"<h2>Disentanglement: {html.escape(who)}</h2>", _table(shown)]
    if "disentanglement" in figures:
        parts += ["<h3>Action units: R2 of a linear probe on z_sem</h3>", _plot(figures["disentanglement"])]
    body = "\n".join(parts)
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>SID</title><style>{STYLE}</style>{body}</html>'
    write_text(folder / "report.html", page)


def _table(figures: dict[str, Figures]) -> str:
    columns = list(next(iter(figures.values())))
    head = "".join(f"<th>{html.escape(column)}</th>" for column in ["", *columns])
    rows = [
        f"<tr><td>{html.escape(name)}</td>" + "".join(f"<td>{row[column]:.3f}</td>" for column in columns) + "</tr>"
        for name, row in figures.items()
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _plot(found: dict[str, dict[str, Figures]]) -> str:
    """Bars of R2 per action unit, the model beside the ceiling, as an inline picture."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 3.2))
    width = 0.8 / len(found)
    for i, (who, rows) in enumerate(found.items()):
        places = [x + i * width for x in range(len(ACTION_UNITS))]
        axes.bar(places, [max(rows["z_sem"][unit], 0) for unit in ACTION_UNITS], width, label=who)
    axes.set_xticks(range(len(ACTION_UNITS)), ACTION_UNITS, rotation=45)
    axes.set_ylim(0, 1)
    axes.legend()
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    pyplot.close(figure)
    return f'<img src="data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}" alt="R2 per unit">'
