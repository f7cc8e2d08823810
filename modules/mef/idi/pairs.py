"""The folder of pairs: candidates made, judged and written, one after the other; it goes on where it was stopped."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ... import media
from ...atomic import write_text, writing_errors
from ...data.portraits import METADATA, Portrait
from ...errors import UserError
from .judge import PairJudge, Verdict
from .makers import Made, Maker

JOURNAL, SETTINGS = "candidates.jsonl", "settings.json"
FILES = "files"  # of the settings: the portraits
MOST_FAILED = 20  # candidates in a row that cannot be made end a run, which then goes on before them

Line = dict[str, Any]  # of the journal, or of the metadata


def make_pairs(maker: Maker, judge: PairJudge, out: str | Path, count: int, settings: Line) -> Counter[str]:
    """Make candidates 0 to ``count - 1`` and write the pairs into ``out``; return what became of them.

    ``exemplars/<number>.png``, and ``targets/`` and ``identities/`` where these are made as well; ``metadata.jsonl``,
    which :func:`.data.portraits.read_portraits` reads: an exemplar is its portrait's ``reference_image``, and who made
    it of whom, and how far the two are apart, stand beside it; ``candidates.jsonl``, all candidates with what spoke
    against them.

    Args:
        settings: what the pairs are made from, plain values: ``out`` holds pairs of the same, or none.

    Raises:
        UserError: ``out`` holds something else, or nothing can be made any more.
    """
    out = Path(out)
    known = _opened(out, settings)
    if len(known) > count:
        raise UserError(f"{out}: has {len(known)} candidates already; ask for as many with --count, or for more")
    failed: list[Line] = []  # in a row: told once it is clear that making has not come to an end
    bar = tqdm(total=count, initial=len(known), desc=f"pairs in {out.name}", unit="pair")
    try:
        with bar:
            for number in range(len(known), count):
                try:
                    made = maker(number)
                except UserError as error:
                    failed.append({"kept": False, "failed": str(error)})
                    if len(failed) == MOST_FAILED:
                        raise UserError(f"{MOST_FAILED} candidates in a row could not be made: {error}") from error
                    bar.update()
                    continue
                lines = [*failed, _made(made, judge, out, number, settings)]
                failed = []
                _append(out / JOURNAL, lines)
                known += lines
                bar.update()
                bar.set_postfix(kept=f"{np.mean([line['kept'] for line in known]):.2f}")
        _append(out / JOURNAL, failed)
        known += failed
    finally:  # what there is can be learnt from, however a run ends
        kept = [line["metadata"] for line in known if line["kept"]]
        write_text(out / METADATA, "".join(json.dumps(line) + "\n" for line in kept))
    return Counter(_fate(line) for line in known)


def begun_with(out: str | Path, root: str | Path, portraits: Sequence[Portrait]) -> dict[str, Portrait]:
    """The portraits of a folder ``root`` that pairs in ``out`` are made of, by name, whatever has been added since.

    Each candidate follows from its number and all of them.  What was added would change those that are still to come.

    Raises:
        UserError: one of them is gone.
    """
    by_name = {Path(os.path.relpath(portrait.image, root)).as_posix(): portrait for portrait in portraits}
    path = Path(out) / SETTINGS
    if not path.is_file():
        return by_name
    (before,) = _parsed(path, [path.read_text(encoding="utf-8")])
    names = before.get(FILES) or list(by_name)
    for name in names:
        if name not in by_name:
            raise UserError(f"{root}/{name}: {out} was begun with it; put it back, or choose another --out")
    if added := len(by_name.keys() - set(names)):
        print(f"{root}: {added} portraits that were added since {out} was begun are left out; another --out takes them")
    return {name: by_name[name] for name in names}


def _append(path: Path, lines: list[Line]) -> None:
    with writing_errors(path), open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())


def _opened(out: Path, settings: Line) -> list[Line]:
    """The candidates that a folder holds already; a new one is made."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give the name of a folder")
    if (out / SETTINGS).is_file():
        (before,) = _parsed(out / SETTINGS, [(out / SETTINGS).read_text(encoding="utf-8")])
        changed = sorted(name for name in before | settings if before.get(name) != settings.get(name))
        if changed:
            raise UserError(
                f"{out}: its pairs were made with other settings ({', '.join(changed)}); choose another --out"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: is not empty, and holds no pairs; choose another --out")
    else:
        write_text(out / SETTINGS, json.dumps(settings, indent=1) + "\n")
    path = out / JOURNAL
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:  # who wrote the last line was killed in the middle of it
        write_text(path, whole)
    return _parsed(path, whole.splitlines())


def _parsed(path: Path, texts: list[str]) -> list[Line]:
    try:
        lines = [json.loads(text) for text in texts]
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: is damaged ({error}); choose another --out") from error
    if not all(isinstance(line, dict) for line in lines):
        raise UserError(f"{path}: was not written by this command; choose another --out")
    return lines


def _made(made: Made, judge: PairJudge, out: Path, number: int, settings: Line) -> Line:
    """A candidate judged, and what is kept of it written; its line of the journal."""
    where = made.target if isinstance(made.target, Path) else f"target {number}"
    verdict = judge.judge(made.picture, made.exemplar, where)
    told = {
        name: round(value, 4) for name, value in zip(Verdict._fields[:3], verdict[:3], strict=True) if value == value
    }
    if verdict.against is not None:
        return {"kept": False, "against": verdict.against, **told}

    def file(folder: str, picture: Path | np.ndarray) -> str:
        if isinstance(picture, Path):
            return Path(os.path.relpath(picture.resolve(), out.resolve())).as_posix()
        path = out / folder / f"{number:06d}.png"
        media.write_image(path, picture)
        return path.relative_to(out).as_posix()

    line: Line = {
        "file_name": file("targets", made.target),
        "text": made.text,
        "identity": made.identity,
        "reference_image": file("exemplars", made.exemplar),
    }
    if made.identity_image is not None:
        line["identity_image"] = file("identities", made.identity_image)
    if made.mask is not None:
        line["mask"] = file("masks", made.mask)
    line |= {"donor": made.donor, "maker": settings["maker"], "candidate": number, "apart": told}
    return {"kept": True, "metadata": line}


def _fate(line: Line) -> str:
    if line["kept"]:
        return "kept"
    if "failed" in line:
        return "not made"
    known = ("another expression", "another pose", "the same person")
    return line["against"] if line["against"] in known else "without a face"
