"""Figures of real faces per person and over people, with intervals, and their table."""

from __future__ import annotations

from typing import Any, NamedTuple

from .bootstrap import Each, interval, intervals
from .metrics import Figures
from .output import table
from .real_faces import Anchors

Rows = dict[str, Figures]  # answer (the model, or a trivial one) -> figures of one clip or pair
LEGEND = "in brackets: where the mean over people lies with 95 % confidence; what columns mean: docs/evaluate.md"


class FaceResult(NamedTuple):
    """What was measured on one clip or pair.

    Attributes:
        person: who is shown: in a pair the source.
        rows: figures by answer.
        shows_faces: whether a face is found in most frames of the truth, or of the driver.
    """

    person: str
    rows: Rows
    shows_faces: bool


def by_person(results: list[FaceResult]) -> dict[str, Rows]:
    """Each person's mean over clips; of every figure over the clips that have it."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for person, rows, _ in results:
        for answer, figures in rows.items():
            for name, value in figures.items():
                found.setdefault(person, {}).setdefault(answer, {}).setdefault(name, []).append(value)
    return {
        person: {
            answer: {name: sum(values) / len(values) for name, values in figures.items()}
            for answer, figures in answers.items()
        }
        for person, answers in found.items()
    }


def columns(people: dict[str, Rows]) -> Each:
    """Answer -> figure -> one value per person who has it."""
    each: Each = {}
    for answers in people.values():
        for answer, figures in answers.items():
            for name, value in figures.items():
                each.setdefault(answer, {}).setdefault(name, []).append(value)
    return each


def summarise(results: list[FaceResult], anchors: Anchors) -> dict[str, Any]:
    """``people`` (each one's figures), ``means`` and ``intervals`` over them by answer, and ``anchors`` of CSIM.

    Empty where less than half of the clips show faces: then it is other things that they are about.
    """
    usable = [result for result in results if result.shows_faces]
    if 2 * len(usable) < len(results) or not usable:
        return {}
    people = by_person(usable)
    each = columns(people)
    anchor = {name: values for name, values in anchors.figures().items() if values}
    return {
        "clips": len(usable),
        "without faces": len(results) - len(usable),
        "people": people,
        "means": {answer: _means(figures) for answer, figures in each.items()},
        "intervals": intervals(each),
        "anchors": {
            name: {"mean": sum(values) / len(values), "interval": interval(values)} for name, values in anchor.items()
        },
    }


def _means(figures: dict[str, list[float]]) -> Figures:
    return {name: sum(values) / len(values) for name, values in figures.items()}


def face_table(summary: dict[str, Any], what: str = "clips") -> str:
    """Figures down, answers across; or the line that says why there are none.  ``what``: clips or pairs."""
    if not summary:
        return f"AKD, AED, CSIM and their like are left out: no face is found in most of the frames of most {what}"
    means, sure = summary["means"], summary["intervals"]

    def cell(answer: str, name: str) -> str:
        if name not in means[answer]:
            return "-"
        low, high = sure[answer][name]
        return f"{means[answer][name]:.3f} [{low:.3f}, {high:.3f}]"

    names = dict.fromkeys(name for figures in means.values() for name in figures)
    lines = [
        f"real faces: {summary['clips']} {what} of {len(summary['people'])} people, mean over people",
        table(["", *means], [[name, *(cell(answer, name) for answer in means)] for name in names]),
    ]
    anchors = [
        "{}: {:.3f} [{:.3f}, {:.3f}]".format(name, value["mean"], *value["interval"])
        for name, value in summary["anchors"].items()
    ]
    if anchors:
        lines.append(f"CSIM of two true frames: {', '.join(anchors)}")
    if summary["without faces"]:
        lines.append(f"left out: {summary['without faces']} {what} in most of whose frames no face is found")
    lines += [f"{name}: of {count} people" for name, count in _fewer(summary).items()]
    return "\n".join([*lines, LEGEND])


def _fewer(summary: dict[str, Any]) -> dict[str, int]:
    """Figures of the first answer that not all people have, and how many do."""
    first = next(iter(summary["means"]))
    people = summary["people"].values()
    counts = {name: sum(name in rows.get(first, {}) for rows in people) for name in summary["means"][first]}
    return {name: count for name, count in counts.items() if count < len(people)}
