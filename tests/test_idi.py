"""Cross-identity pairs: what is made, what is kept, and how a run goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scripts import run, start

from modules import media
from modules.data.portraits import read_portraits
from modules.errors import UserError
from modules.media.tensors import to_images
from modules.mef.idi.judge import Limits, PairJudge
from modules.mef.idi.makers import FromPortraits, FromWorld, by_command, by_sid
from modules.world import Faces, draw_expressions, draw_identities, draw_scenes, expression
from modules.world.draws import draw_close_poses
from modules.world.rendering import render

ROOT = Path(__file__).parent.parent
SIZE = 160
PEOPLE = 3
LOOSE = ["--expression", "10", "--pose", "180", "--identity", "1"]  # everything with a face is kept


@pytest.fixture(scope="module")
def portraits(tmp_path_factory) -> Path:
    """Two pictures each of three people, one of them happy."""
    folder = tmp_path_factory.mktemp("portraits")
    who = draw_identities(PEOPLE, 5).repeat_interleave(2, dim=0)
    units, asymmetry, gaze = draw_expressions(2 * PEOPLE, 5)
    units[:] = 0
    units[1] = expression("happiness")
    faces = Faces(who, units, 0 * asymmetry, 0 * gaze, draw_close_poses(len(who), 5, 0.4), draw_scenes(len(who), 5))
    lines = []
    for i, picture in enumerate(to_images(render(faces, SIZE).image)):
        media.write_image(folder / f"{i}.png", picture)
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f"picture {i}", "identity": f"person {i // 2}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def judge() -> PairJudge:
    return PairJudge(Limits(), cpu=True)


def idi(*args: str | Path, **how):
    return run("-m", "modules.mef.idi", *args, "--cpu", **how)


def test_sid_gives_a_donor_the_portraits_expression(portraits, judge):
    """The happy portrait's exemplar is nearer to it than the donor's own picture is, and shows the donor."""
    people, _ = read_portraits(portraits)
    paint = by_sid(str(ROOT / "config/rigged.yaml"), str(ROOT / "SID_Checkpoints/sid-rigged-256-cpk.pth"), cpu=True)
    target, donor = people[1], people[2]
    exemplar = judge.see(paint(target, donor, 0), "exemplar")
    wanted, before = (judge.see(media.read_image(portrait.image), "portrait") for portrait in (target, donor))
    far = judge.verdict(wanted, before)
    assert judge.verdict(wanted, exemplar).expression < 0.7 * far.expression
    assert before.identity @ exemplar.identity > wanted.identity @ exemplar.identity


def test_pairs_are_a_folder_of_portraits(portraits, tmp_path):
    done = idi("--out", tmp_path / "pairs", "--count", "8", "--portraits", portraits, *LOOSE)
    assert done.returncode == 0, done.stderr
    kept, bad = read_portraits(tmp_path / "pairs")
    assert not bad and len(kept) == 8  # more than there are portraits: they take a second turn, with other donors
    assert "8 pairs of 8 candidates" in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "pairs/metadata.jsonl").read_text().splitlines()]
    for portrait, line in zip(kept, lines, strict=True):
        assert portrait.image.resolve().parent == portraits.resolve()
        assert portrait.text == f"picture {portrait.image.stem}"
        assert portrait.reference_image.parent.name == "exemplars"
        assert line["donor"] != portrait.identity and line["maker"] == "sid"
        assert set(line["apart"]) == {"expression", "pose", "identity"}
    assert {portrait.image.stem for portrait in kept[:6]} == set("012345")


def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path):
    arguments = ("--maker", "world", "--count", "12", "--size", "128", *LOOSE)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert idi("--out", whole, *arguments).returncode == 0
    script = start("-m", "modules.mef.idi", "--out", stopped, *arguments, "--cpu")
    journal = stopped / "candidates.jsonl"
    while not (journal.is_file() and journal.read_text().count("\n") >= 3):
        assert script.poll() is None
        time.sleep(0.02)
    os.kill(script.pid, signal.SIGKILL)
    script.wait()
    journal.write_text(journal.read_text() + '{"kept": tr')  # a line that was not written to its end
    assert not (stopped / "metadata.jsonl").exists()
    done = idi("--out", stopped, *arguments)
    assert done.returncode == 0, done.stderr
    for name in ("metadata.jsonl", "candidates.jsonl"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    for path in (whole / "exemplars").iterdir():
        assert path.read_bytes() == (stopped / "exemplars" / path.name).read_bytes()


def test_portraits_that_are_added_change_nothing_of_pairs_that_were_begun(portraits, tmp_path):
    """The program copies its donor: the pairs tell which was drawn for each portrait."""
    root = shutil.copytree(portraits, tmp_path / "portraits")
    swap = (
        f"{sys.executable} -c 'import shutil, sys; shutil.copy(sys.argv[1], sys.argv[3])' {{donor}} {{target}} {{out}}"
    )
    options = ("--maker", "command", "--command", swap, "--portraits", root, *LOOSE)
    idi("--out", tmp_path / "whole", "--count", "10", *options)
    idi("--out", tmp_path / "pairs", "--count", "4", *options)
    metadata = root / "metadata.jsonl"
    before = metadata.read_text()
    shutil.copy(root / "0.png", root / "a.png")
    metadata.write_text('{"file_name": "a.png", "text": "new", "identity": "new"}\n' + before)
    done = idi("--out", tmp_path / "pairs", "--count", "10", *options)
    assert done.returncode == 0 and "1 portraits that were added since" in done.stdout, done.stderr
    assert (tmp_path / "pairs/candidates.jsonl").read_bytes() == (tmp_path / "whole/candidates.jsonl").read_bytes()
    metadata.write_text("".join(before.splitlines(True)[1:]))
    done = idi("--out", tmp_path / "pairs", "--count", "12", *options)
    assert done.returncode == 2 and "portraits/0.png" in done.stderr and "was begun with it; put it back" in done.stderr


def test_rendered_pairs_show_one_expression_on_two_people(judge):
    world = FromWorld(SIZE, 1)
    faces, made = world.faces(0), world(0)
    assert faces.action_units[0].equal(faces.action_units[1]) and faces.pose[0].equal(faces.pose[1])
    assert not faces.identity[0].equal(faces.identity[1]) and faces.identity[0].equal(faces.identity[2])
    assert not faces.action_units[0].equal(faces.action_units[2])
    assert made.picture.shape == made.exemplar.shape == (SIZE, SIZE, 3) and made.identity != made.donor


def test_the_judge_says_what_speaks_against_a_pair(portraits, judge):
    picture = {i: media.read_image(portraits / f"{i}.png") for i in (1, 2)}
    assert judge.judge(picture[1], picture[1], "portrait").against == "the same person"
    assert judge.judge(picture[1], picture[2], "portrait").against == "another expression"
    assert "no face" in judge.judge(picture[1], np.zeros((64, 64, 3), np.uint8), "portrait").against


def test_a_users_program_swaps(portraits, tmp_path):
    people, _ = read_portraits(portraits)
    copying = tmp_path / "swap.py"
    copying.write_text("import shutil, sys\nshutil.copy(*sys.argv[2:4])\n")
    paint = by_command(f"{sys.executable} {copying} {{target}} {{donor}} {{out}}")
    assert np.array_equal(paint(people[0], people[2], 0), media.read_image(people[2].image))
    failing = by_command(f"{sys.executable} -c \"raise SystemExit('no face')\" {{target}} {{donor}} {{out}}")
    with pytest.raises(UserError, match="status 1: no face"):
        failing(people[0], people[2], 0)
    with pytest.raises(UserError, match="cannot be started"):
        by_command("no-such-program {target} {donor} {out}")(people[0], people[2], 0)
    with pytest.raises(UserError, match="{donor} is missing"):
        by_command("swap {target} {out}")


def test_one_person_has_no_donor(portraits):
    people, _ = read_portraits(portraits)
    with pytest.raises(UserError, match="one person"):
        FromPortraits(people[:2], lambda *_: None, 0)


@pytest.mark.parametrize(
    "given, said",
    [
        (["--maker", "world", "--portraits", "x"], "--portraits: has no meaning with --maker world"),
        (["--maker", "command", "--portraits", "x"], "--command: is needed"),
        (["--portraits", "no-such-folder"], "no-such-folder: no such folder"),
        (["--portraits", "x", "--config", "config/rigged.yaml"], "belong together"),
    ],
)
def test_wrong_options_are_one_line(given, said, tmp_path):
    done = idi("--out", tmp_path / "pairs", "--count", "2", *given)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "pairs").exists()


def test_a_folder_of_other_pairs_is_left_alone(tmp_path):
    arguments = ["--maker", "world", "--size", "128", "--out", tmp_path / "pairs"]
    assert idi(*arguments, "--count", "2").returncode == 0
    for more, said in (
        (["--count", "2", "--seed", "7"], "other settings (seed)"),
        (["--count", "1"], "has 2 candidates"),
    ):
        done = idi(*arguments, *more)
        assert done.returncode == 2 and said in done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    done = idi("--maker", "world", "--out", tmp_path / "mine", "--count", "2")
    assert done.returncode == 2 and "is not empty" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_what_cannot_be_made_is_told(portraits, tmp_path):
    swap = f"{sys.executable} -c raise(SystemExit('broken')) {{target}} {{donor}} {{out}}"
    arguments = ["--maker", "command", "--command", swap, "--portraits", portraits, "--out", tmp_path / "pairs"]
    done = idi(*arguments, "--count", "3")
    assert done.returncode == 0 and "0 pairs of 3 candidates; 3 not made" in done.stdout


def test_a_program_that_stops_working_ends_the_run_and_what_there_is_can_be_used(portraits, tmp_path):
    """Its failures are not written down: the run goes on before them once it works again."""
    (tmp_path / "swap.py").write_text(
        "import os, shutil, sys\n"
        f"done = len(os.listdir({str(tmp_path / 'pairs' / 'exemplars')!r})) if os.path.isdir("
        f"{str(tmp_path / 'pairs' / 'exemplars')!r}) else 0\n"
        f"if done >= 2 and not os.path.exists({str(tmp_path / 'repaired')!r}): sys.exit('no licence')\n"
        "shutil.copy(*sys.argv[2:4])\n"
    )
    swap = f"{sys.executable} {tmp_path / 'swap.py'} {{target}} {{donor}} {{out}}"
    arguments = ["--maker", "command", "--command", swap, "--portraits", portraits, "--out", tmp_path / "pairs", *LOOSE]
    done = idi(*arguments, "--count", "40")
    assert done.returncode == 2 and "20 candidates in a row could not be made: --command" in done.stderr
    assert len(read_portraits(tmp_path / "pairs")[0]) == 2
    (tmp_path / "repaired").touch()
    done = idi(*arguments, "--count", "4")
    assert done.returncode == 0 and "4 pairs of 4 candidates" in done.stdout


def test_a_folder_behind_a_link_finds_its_portraits(portraits, tmp_path):
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/away")
    done = idi("--out", tmp_path / "link/pairs", "--count", "2", "--portraits", portraits, *LOOSE)
    assert done.returncode == 0, done.stderr
    assert len(read_portraits(tmp_path / "link/pairs")[0]) == 2


def test_a_quote_that_is_not_closed_is_one_line():
    with pytest.raises(UserError, match="--command: No closing quotation"):
        by_command("swap '{target} {donor} {out}")
