"""Many results at once: the rows of a table, done one after the other, resumed where they stopped, and reported.

The report is the memory as well.  Before the work begins it names every row and a fingerprint of what the row asks
for: its options, and sizes and times of all files that they name, weights among them.  A result appears whole or not at
all (:mod:`.atomic`), so a row is done if its result is there and its fingerprint is the report's: also after a kill in
the middle, and without a second look at what has been made.  One run at a time works on a folder.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import hashlib
import io
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from . import media
from .atomic import check_place, write_text, writing_errors
from .errors import UserError

REPORT, LOCK = "report.csv", ".lock"
SOURCES, DRIVERS = "sources", "drivers"  # folders of a folder
OWN = ("source", "driver", "result")  # columns that are no options
FLAGS = {"yes": "--{}", "no": "--no-{}"}


@dataclass
class Row:
    """One result.

    Attributes:
        source: picture or video of the person.
        driver: picture or video; empty where the options say what takes its place.
        result: name of the file in the folder of results.
        options: of the script, by name, and their values; ``yes`` and ``no`` are of those without a value.
        status: waiting, done or failed.
        seconds: that it took.
        error: why it failed; a row that cannot be begun has it from the start.
        fingerprint: of all that the result depends on; empty where there is no result, nor will be one.
    """

    source: str
    driver: str
    result: str
    options: dict[str, str] = field(default_factory=dict)
    status: str = "waiting"
    seconds: float = 0.0
    error: str = ""
    fingerprint: str = ""

    @property
    def words(self) -> list[str]:
        """Its options as a command line has them."""
        return [FLAGS.get(value, "--{}=" + value).format(name) for name, value in self.options.items()]

    @property
    def is_picture(self) -> bool:
        """Whether its result is one: a picture by a picture, or by an expression without a time."""
        if media.is_video(self.source):
            return False
        return media.is_image(self.driver) if self.driver else "seconds" not in self.options


def read_rows(place: str | Path) -> list[Row]:
    """The rows of a table, or all pairs of a folder's ``sources`` and ``drivers``.

    A table is a .csv file whose first line names its columns: ``source``, ``driver``, ``result``, and options of the
    script.  Files are looked for beside it.  Results without a name are called ``SOURCE--DRIVER.mp4`` or ``.png``.

    Raises:
        UserError: there is no such file, or no row in it, or it lacks the column ``source``.
    """
    place = Path(place)
    rows = _pairs(place) if place.is_dir() else list(_table(place))
    if not rows:
        raise UserError(f"{place}: there is nothing to do in it; {_EXPECTED}")
    taken: set[str] = set()
    for row in rows:
        row.error = row.error or _fault(row)
        if row.error:
            continue
        row.result = row.result or _unused(row, taken)
        if row.result in taken:
            row.error, row.result = f"{row.result}: is the result of another row as well; give each its own", ""
        taken.add(row.result)
    return rows


_EXPECTED = f"a table has the columns source and driver, a folder the folders {SOURCES} and {DRIVERS}"


def _pairs(folder: Path) -> list[Row]:
    sources, drivers = (_media_in(folder / name) for name in (SOURCES, DRIVERS))
    return [Row(str(source), str(driver), "") for source in sources for driver in drivers]


def _media_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {_EXPECTED}")
    return sorted(file for file in folder.iterdir() if media.names_image(file) or media.names_video(file))


def _table(path: Path) -> Iterator[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8"
        raise UserError(f"{path}: cannot be read ({reason}); {_EXPECTED}") from None
    head = text.partition("\n")[0]
    table = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in head and "," not in head else ",")
    columns = [name.strip() for name in table.fieldnames or ()]
    if "source" not in columns:
        raise UserError(f"{path}: has no column named source; its first line is {head.strip()!r}")
    table.fieldnames = columns
    for cells in table:
        values = {name: (value or "").strip() for name, value in cells.items() if name}
        source, driver, result = (values.pop(name, "") for name in OWN)
        files = [str(path.parent / name) if name else "" for name in (source, driver)]
        row = Row(*files, result, {name: value for name, value in values.items() if value})
        if None in cells:
            row.error = "has more cells than the first line; put values with commas between quotes"
        yield row


def _fault(row: Row) -> str:
    """Why a row cannot be begun, if so."""
    for file in filter(None, (row.source, row.driver)):
        if not Path(file).is_file():
            return f"{file}: no such file"
        if not (media.is_image(file) or media.is_video(file)):
            return f"{file}: is neither a picture nor a video"
    if not row.source:
        return "names no source"
    if not row.driver and "expression" not in row.options:
        return "names no driver"
    inside = Path(row.result)
    if inside.is_absolute() or ".." in inside.parts:
        return f"{row.result}: lies outside the folder of results; give a name in it"
    return ""


def _unused(row: Row, taken: set[str]) -> str:
    """A name that says what is in it, and that no row before has."""
    shown = Path(row.driver).stem if row.driver else re.sub(r"[^\w.-]+", "-", row.options["expression"])
    stem = f"{Path(row.source).stem}--{shown}"
    end = ".png" if row.is_picture else ".mp4"
    number = 2
    name = f"{stem}{end}"
    while name in taken:
        name, number = f"{stem}-{number}{end}", number + 1
    return name


def run(rows: list[Row], folder: Path, settings: Mapping[str, Any], do: Callable[[Row, Path], None]) -> list[Row]:
    """Do the rows that are not done; return those that failed.

    Args:
        rows: from :func:`read_rows`.
        folder: of the results and the report.
        settings: what all rows have in common and results depend on, by name; of a file or folder, its path.
        do: writes the result of a row to a path, whole or not at all.

    Raises:
        UserError: another run works on the folder, or it holds the report of something else.
    """
    check_place(folder / REPORT)
    with _alone(folder):
        _tidy(folder / REPORT)
        before = _reported(folder)
        for row in rows:
            _compare(row, folder / row.result, before.get(row.result), settings)
        _report(rows, folder)
        for number, row in enumerate(rows, 1):
            if row.status == "waiting":
                _do(row, folder, do)
                _report(rows, folder)
            told = {"done": row.result, "failed": f"{row.source}: {row.error}"}[row.status]
            stream = sys.stderr if row.error else sys.stdout
            print(f"{number}/{len(rows)} {row.status}: {told}", file=stream, flush=True)
    return [row for row in rows if row.status == "failed"]


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs off the folder; the system takes the lock away from a process that is killed."""
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"{folder}: another run works on it; wait for its end, or give another --out") from None
    try:
        yield
    finally:
        lock.release()


def _compare(row: Row, result: Path, known: dict[str, str] | None, settings: Mapping[str, Any]) -> None:
    """Say whether a row is done, has to be, or cannot be, by what a former run's report knows of its result."""
    wanted = _fingerprint(row, settings)
    if row.error:  # a result of an earlier day stays, and stays ours
        row.status, row.fingerprint = "failed", known["fingerprint"] if known else ""
    elif known is None and result.exists():
        row.status, row.error = "failed", f"{result}: is there, and no batch made it; move it, or name another"
    elif known is not None and result.is_file() and known["fingerprint"] == wanted:
        row.status, row.seconds, row.fingerprint = "done", float(known["seconds"]), wanted
    else:
        result.unlink(missing_ok=True)  # made from something else; the report would take it for this row's
        row.fingerprint = wanted


def _do(row: Row, folder: Path, do: Callable[[Row, Path], None]) -> None:
    """Do one row; what goes wrong with it is its status, so that the others are done all the same."""
    result, start = folder / row.result, time.monotonic()
    _tidy(result)
    try:
        do(row, result)
        row.status = "done"
    except UserError as error:
        row.status, row.error = "failed", str(error)
    except Exception as error:  # a fault of ours, or memory that is short: of this row, perhaps not of the next
        traceback.print_exc()
        row.status, row.error = "failed", f"{type(error).__name__}: {error}"
    row.seconds = round(time.monotonic() - start, 2)
    row.fingerprint = row.fingerprint if row.status == "done" else ""


def _fingerprint(row: Row, settings: Mapping[str, Any]) -> str:
    """Of options, and of the files that they name: as far as sizes and times tell that one is another now."""
    values = {**settings, **row.options}
    named = {row.source, row.driver, *(value for value in values.values() if isinstance(value, str))}
    stamps = {name: _stamps(Path(name)) for name in sorted(named) if name and os.path.exists(name)}
    return hashlib.sha256(repr((sorted(values.items()), stamps)).encode()).hexdigest()[:16]


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a file, or of all in a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]


def _tidy(path: Path) -> None:
    """Remove what a kill has left of a file half written."""
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*.partial{path.suffix}"):
        left.unlink()


def _reported(folder: Path) -> dict[str, dict[str, str]]:
    """What the report of a former run says of each result that is or may be there by its doing."""
    path = folder / REPORT
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if any("fingerprint" not in row for row in rows):
        raise UserError(f"{path}: is not a batch's report; give another folder as --out")
    return {row["result"]: row for row in rows if row["fingerprint"]}


def _report(rows: list[Row], folder: Path) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, [column.name for column in fields(Row)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) | {"options": " ".join(row.words)} for row in rows)
    write_text(folder / REPORT, text.getvalue())
