"""--batch: many results at once, resumed where they stopped; bad rows are reported, and the rest is done."""

from __future__ import annotations

import csv
import os
import time
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from media_files import write_scenes
from tiny import randomized, tiny, write_tiny

from modules import batch, media
from modules.config.files import config_from_dict
from modules.data.astronaut import moving_face
from modules.errors import UserError
from modules.sid import weights
from modules.sid.model import SID
from modules.training.checkpoint import save_checkpoint

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Path:
    """A small model, and a folder of two sources and two drivers, a picture and a video each."""
    folder = tmp_path_factory.mktemp("studio")
    write_tiny(folder / "tiny.yaml")
    torch.manual_seed(0)
    save_checkpoint(weights.state(randomized(SID(config_from_dict(tiny()).model_params))), folder / "model.pth.tar")
    for name in ("me", "you"):
        media.write_image(folder / f"sources/{name}.png", moving_face(0, 1, 64)[0])
    media.write_image(folder / "drivers/smile.png", moving_face(1, 1, 64)[0])
    write_scenes(folder / "drivers/talk.mp4", [i / 25 for i in range(20)], 64, 64)
    return folder


def command(studio: Path, table: Path | str, out: Path, *options: str) -> tuple[str | Path, ...]:
    model = ("--config", studio / "tiny.yaml", "--checkpoint", studio / "model.pth.tar", "--cpu")
    return (ROOT / "Inference.py", "--batch", table, "--out", out, *model, *options)


def report(out: Path) -> list[dict[str, str]]:
    with (out / batch.REPORT).open(newline="") as file:
        return list(csv.DictReader(file))


def stamps(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.name not in (batch.REPORT, batch.LOCK)}


def test_all_pairs_of_a_folder_are_animated_and_a_killed_run_goes_on(studio, tmp_path):
    running = scripts.start(*command(studio, studio, tmp_path / "out"))
    first = tmp_path / "out/me--smile.png"
    deadline = time.monotonic() + 100
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    running.kill()  # SIGKILL: nothing can be tidied up
    running.wait(20)
    left = stamps(tmp_path / "out")
    assert first.name in left
    result = scripts.run(*command(studio, studio, tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    names = ["me--smile.png", "me--talk.mp4", "you--smile.png", "you--talk.mp4"]
    assert sorted(stamps(tmp_path / "out")) == names  # and no half-written file of the killed run
    whole = {name: stamp for name, stamp in left.items() if name in names}
    assert whole.items() <= stamps(tmp_path / "out").items()  # what was done is not done again
    assert len(media.probe_video(tmp_path / "out/you--talk.mp4").times) == 20
    assert [row["status"] for row in report(tmp_path / "out")] == ["done"] * 4


def test_bad_rows_are_told_and_the_rest_is_done_with_options_of_its_own(studio, tmp_path):
    table = tmp_path / "pairs.csv"
    rows = [
        "source,driver,result,strength,side_by_side",
        f"{studio}/sources/me.png,{studio}/drivers/smile.png,a.png,,yes",
        f"{studio}/sources/nobody.png,{studio}/drivers/smile.png,,,",
        f"{studio}/sources/me.png,{studio}/drivers/smile.png,,much,",
        f"{studio}/sources/me.png,{studio}/drivers/smile.png,../b.png,,",
        f"{studio}/sources/me.png,{studio}/drivers/smile.png,a.png,,",
        f"{studio}/tiny.yaml,{studio}/drivers/smile.png,c.png,,",
        f"{studio}/sources/you.png,{studio}/drivers/smile.png,sub/d.jpg,0.5,",
    ]
    table.write_text("\n".join(rows), encoding="utf-8-sig")  # as Excel writes it
    result = scripts.run(*command(studio, table, tmp_path / "out"))
    assert result.returncode == 1  # some failed; 2 would be: none was begun
    told = report(tmp_path / "out")
    assert [row["status"] for row in told] == ["done", *["failed"] * 5, "done"]
    causes = ("no such file", "invalid float value", "outside the folder", "another row", "tiny.yaml")
    for row, words in zip(told[1:6], causes, strict=True):
        assert words in row["error"] and row["error"] in result.stderr
    size = tiny()["dataset_params"]["frame_shape"][0]
    assert media.read_image(tmp_path / "out/a.png").shape == (size, 3 * size, 3)
    assert media.read_image(tmp_path / "out/sub/d.jpg").shape == (size, size, 3)
    assert "2 of 7 done" in result.stdout


def rows_of(folder: Path, *names: str) -> list[batch.Row]:
    """Rows of one source each, which has the name of its row."""
    for name in (*names, "driver"):
        if not (folder / f"{name}.png").exists():
            media.write_image(folder / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    table = folder / "table.csv"
    table.write_text("\n".join(["source,driver", *(f"{name}.png,driver.png" for name in names)]))
    return batch.read_rows(table)


def test_a_row_is_done_again_when_what_it_is_made_from_changes(tmp_path):
    done: list[str] = []

    def do(row: batch.Row, result: Path) -> None:
        done.append(Path(row.source).stem)
        media.write_image(result, media.read_image(row.source))

    out = tmp_path / "out"
    for settings, changed, expected in (
        ({}, None, ["a", "b"]),
        ({}, None, []),
        ({"strength": 0.5}, None, ["a", "b"]),
        ({"strength": 0.5}, 9, ["b"]),
    ):
        done.clear()
        if changed:
            media.write_image(tmp_path / "b.png", np.full((changed, 8, 3), 200, np.uint8))
        assert batch.run(rows_of(tmp_path, "a", "b"), out, settings, do) == []
        assert done == expected
    assert media.read_image(out / "b--driver.png").shape == (9, 8, 3)


def copying(done: list[str]):
    def do(row: batch.Row, result: Path) -> None:
        done.append(Path(row.source).stem)
        media.write_image(result, media.read_image(row.source))

    return do


@pytest.mark.parametrize("name", ["model.pth", "onnx"])
def test_rows_are_done_again_when_weights_change_under_their_name(tmp_path, name):
    weights = tmp_path / name if name == "model.pth" else tmp_path / name / "part.onnx"
    weights.parent.mkdir(exist_ok=True)
    done: list[str] = []
    for text, changed, expected in (("one", 1, ["a"]), ("one", 1, []), ("two", 2, ["a"])):  # as many bytes: time tells
        done.clear()
        weights.write_text(text)
        os.utime(weights, ns=(changed, changed))
        batch.run(rows_of(tmp_path, "a"), tmp_path / "out", {"checkpoint": str(tmp_path / name)}, copying(done))
        assert done == expected


def test_a_second_run_on_a_folder_is_one_line_and_changes_nothing(tmp_path):
    done: list[str] = []

    def do(row: batch.Row, result: Path) -> None:
        with pytest.raises(UserError, match="another run works on it"):
            batch.run(rows_of(tmp_path, "a", "b"), tmp_path / "out", {}, copying([]))
        copying(done)(row, result)

    assert batch.run(rows_of(tmp_path, "a"), tmp_path / "out", {}, do) == []
    assert done == ["a"] and [row["result"] for row in report(tmp_path / "out")] == ["a--driver.png"]
    assert batch.run(rows_of(tmp_path, "a"), tmp_path / "out", {}, copying(done)) == []  # the lock is given back
    assert done == ["a"]


def test_a_source_that_was_away_for_a_run_does_not_cost_its_result(tmp_path):
    done: list[str] = []
    for is_away in (False, True, False):
        rows = rows_of(tmp_path, "a")
        if is_away:
            rows[0].error = "a.png: no such file"
        assert len(batch.run(rows, tmp_path / "out", {}, copying(done))) == is_away
    assert done == ["a"] and (tmp_path / "out/a--driver.png").exists()


def test_files_of_others_in_the_folder_are_left_alone(tmp_path):
    out = tmp_path / "out"
    media.write_image(out / "a--driver.png", np.full((8, 8, 3), 7, np.uint8))

    def do(row: batch.Row, result: Path) -> None:
        raise AssertionError("nothing is to be done")

    for _ in range(2):  # the first run's report does not make it the batch's own
        (failed,) = batch.run(rows_of(tmp_path, "a"), out, {}, do)
        assert "no batch made it" in failed.error
    assert (media.read_image(out / "a--driver.png") == 7).all()


def test_a_fault_of_one_row_is_not_the_end_of_the_next(tmp_path, capsys):
    def do(row: batch.Row, result: Path) -> None:
        if Path(row.source).stem == "a":
            raise MemoryError("too large")
        media.write_image(result, media.read_image(row.source))

    (failed,) = batch.run(rows_of(tmp_path, "a", "b"), tmp_path / "out", {}, do)
    assert failed.error == "MemoryError: too large" and "Traceback" in capsys.readouterr().err
    assert (tmp_path / "out/b--driver.png").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "source"), ("driver\nx.png", "no column named source"), ("source,driver\n", "nothing to do")],
)
def test_a_table_without_rows_is_one_line(tmp_path, text, words):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        batch.read_rows(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--batch", "x.csv"), "--out is needed"),
        (("--batch", "x.csv", "--out", "o", "--source_image", "me.png"), "--source_image is of one result"),
        (("--batch", "x.csv", "--out", "o"), "x.csv: cannot be read"),
    ],
)
def test_what_contradicts_a_batch_is_one_line(tmp_path, options, words):
    result = scripts.run(ROOT / "Inference.py", *options, cwd=tmp_path)
    assert result.returncode == 2 and words in result.stderr and not (tmp_path / "o").exists()
