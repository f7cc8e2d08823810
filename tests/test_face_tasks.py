"""--mode evaluate of SFSR: what is asked for, what is painted for it, and figures whose right value is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import scripts
import tiny_base
import torch
from test_measures import SMALL
from test_mef_training import train
from test_portraits import oracle
from test_sfsr_training import SFSR, write_people
from tiny_mef import write_config, write_sid

from modules import media
from modules.evaluation import face_tasks, word_tasks
from modules.evaluation.compare import compare
from modules.evaluation.evaluate_faces import background_error
from modules.evaluation.judges.face_meter import FaceMeter, save_meter
from modules.evaluation.people import PROBE_SEED
from modules.evaluation.portrait_figures import Judge
from modules.evaluation.portrait_tasks import CLASSES, ask, embed
from modules.evaluation.ruler import Ruler
from modules.mef.inference import load_pipeline
from modules.mef.options import PortraitOptions
from modules.mef.painter import FacePainter
from modules.world import render
from modules.world.emotions import emotions
from modules.world.showing import state_of


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """A tiny base that has been trained for a few steps, its SID, and a meter that knows nothing."""
    folder = tmp_path_factory.mktemp("sfsr")
    tiny_base.save("sd15", folder / "sd15")
    write_people(write_sid(folder, framing_params={"size": 2.35, "above": 0.11}))
    torch.manual_seed(0)
    save_meter(FaceMeter(SMALL, 32), folder / "meter.pth")
    few = {"meter": str(folder / "meter.pth"), "people": 2, "expressions": 1, "steps": 1, "close": True}
    changes = SFSR | {"train_params.num_epochs": 1, "evaluate_params": few}
    train(write_config(folder / "sfsr.yaml", folder, **changes), log_dir=str(folder / "log")).rename(folder / "run")
    return folder


@pytest.fixture(scope="module")
def adapters(workshop) -> Path:
    return workshop / "run" / "adapters"


def test_triples_ask_for_what_can_be_rendered():
    triples = face_tasks.ask(3, 2)
    swap, reenact, both = (triples.asked(task) for task in face_tasks.TASKS)
    assert torch.equal(both.truth.identity, triples.source.identity.repeat_interleave(2, dim=0))
    assert torch.equal(swap.truth.action_units, triples.target.action_units)
    assert torch.equal(reenact.truth.identity, triples.target.identity)
    assert torch.equal(both.truth.action_units, triples.driver.action_units)
    for asked in (swap, reenact, both):
        assert torch.equal(asked.truth.pose, triples.target.pose)
        assert torch.equal(asked.truth.scene, triples.target.scene)
    assert not (triples.shown == triples.own).any()
    assert torch.equal(swap.person, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert torch.equal(reenact.person, torch.arange(6))


def test_what_is_painted_for_a_task_is_judged_by_what_it_leaves_alone(adapters):
    pipeline = load_pipeline(str(adapters), crop=False, cpu=True)
    painter, triples = FacePainter(pipeline, PortraitOptions("", steps=1)), face_tasks.ask(2, 1)
    source, driver, target = (
        (render(faces, 64).image * 255).byte() for faces in (triples.source, triples.driver, triples.target)
    )
    blank = torch.full_like(target[:1], 128)
    targets = face_tasks.Targets(painter, torch.cat([target, blank]))
    assert targets.missed == 1
    z = [torch.cat([z, z[:1]]) for z in embed(pipeline, triples.asked("both"), source, driver)]
    pictures = {}
    for task in face_tasks.TASKS:
        for way in face_tasks.ways(task, sees=True, has_more=False):
            made = targets.paint(way, task, *z)
            pictures[task, way.name] = made.image
            assert background_error(made.image, targets.images, made.outside).max() == 0
            assert torch.equal(made.image[2:], blank)
            assert not torch.equal(made.image, targets.images)
    # an identity that is the picture's own, or another's, makes another picture
    assert not torch.equal(pictures["swap", "SFSR"], pictures["reenact", "SFSR"])
    assert not torch.equal(pictures["both", "no identity adapter"], pictures["both", "SFSR"])


def test_a_model_that_never_saw_a_background_is_measured_without_one():
    found = face_tasks.ways(face_tasks.BOTH, sees=False, has_more=True)
    assert [way.name for way in found] == ["SFSR", "no identity adapter", "no expression adapter", "z_id alone"]
    assert not any(way.sees for way in found)
    assert "no background given" in [way.name for way in face_tasks.ways(face_tasks.BOTH, sees=True, has_more=False)]


def test_background_errors_are_of_what_is_outside():
    target = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    image = target.clone()
    image[..., 0, 0], image[..., 1, 1] = 100, 6
    outside = torch.tensor([[[[0.0, 1], [1, 1]]]])
    assert background_error(image, target, outside).tolist() == [2]


def test_drivers_show_words_from_all_of_the_tree_and_all_else_stays():
    triples, words = face_tasks.ask(48, 1), word_tasks.spread(48)
    assert len({word.name for word in words}) == 48
    assert {word.family for word in words} == {word.family for word in emotions().values()}
    assert word_tasks.spread(135) == list(emotions().values())
    assert word_tasks.spread(136)[-1] == word_tasks.spread(1)[0]
    named = word_tasks.showing(triples, words)
    assert [CLASSES[i] for i in named.shown.tolist()] == [word.looks for word in words]
    assert torch.equal(named.target.identity, triples.target.identity)
    means = torch.stack([state_of([(word, 1.0)]).units[0, 0] for word in words])
    # each face has a strength of its own: a word's spread is at most a third, and twice that is drawn
    assert (named.driver.action_units - means).abs().max() < 0.6
    assert torch.equal(named.driver.action_units > 0, means > 0)


def test_a_face_that_shows_a_word_is_nearest_to_it():
    words = list(emotions().values())
    units = torch.stack([state_of([(word, 1.0)]).units[0].mean(dim=0) for word in words])
    figures = word_tasks.figures(units, words)
    assert figures["family %"].min() == 100 and figures["first ten %"].min() == 100
    assert figures["rank"].max() == 1
    far = words.index(emotions()["rage"])
    figures = word_tasks.figures(units[far : far + 1], [emotions()["bliss"]])
    assert figures["family %"].item() == 0 and figures["rank"].item() > 60 and figures["first ten %"].item() == 0


def test_own_is_who_is_nearer_to_the_one_that_is_wanted():
    triples, taught = face_tasks.ask(16, 1), ask(60, 1, PROBE_SEED)
    asked = triples.asked(face_tasks.BOTH)
    ruler = Ruler(FaceMeter(SMALL, 32), 1.0, {})
    source, driver, target, truth, known = map(
        oracle, (triples.source, triples.driver, triples.target, asked.truth, taught.truth)
    )
    judge = Judge(ruler, asked, taught, source, truth, known, [driver, target])
    figures, _ = judge.each(truth)
    assert figures["own %"].tolist() == [100] * 16 and figures["SIM"].tolist() == [0] * 16
    for others in (driver, target):
        assert judge.each(others)[0]["own %"].tolist() == [0] * 16
        assert judge.each(others)[0]["leak"].mean() > 0.3
    # both are nobody's: as many of the others are more like a face as are less
    assert abs(figures["leak"].mean()) < 0.2


def test_the_command_prints_every_task_and_the_words(workshop):
    options = "--config", workshop / "sfsr.yaml", "--mode", "evaluate", "--checkpoint", workshop / "run" / "adapters"
    result = scripts.run("run.py", *map(str, options), "--cpu")
    assert result.returncode == 0, result.stderr
    folder = workshop / "run" / "evaluation" / "adapters"
    figures = json.loads((folder / "metrics.json").read_text())
    columns = ["ID", "first %", "own %", "leak", "SIM", "EXP %", "POSE mean", "BACKGROUND", "FD-world", "TIME"]
    for task in face_tasks.TASKS:
        assert list(figures[task]["SFSR"]) == columns
        assert figures[task]["render"]["SIM"] == 0 and "TIME" not in figures[task]["render"]
        assert figures[task]["target as it is"]["SIM"] > 0
    assert {"SFSR", "told the word"} < set(figures["words"]) and "no background given" in figures["both"]
    assert {"family %", "rank", "first ten %"} < set(figures["words"]["told the word"])
    assert all(name in result.stdout for name in (*columns, "family %", "told the word"))
    assert "words: SFSR: rank" in compare(folder / "metrics.json", folder / "metrics.json")
    # person, target, truth and painted of each task and the words, and their drivers
    assert media.read_image(folder / "sheet.png").shape == (2 * 64, (2 + 4 * 2 + 3) * 64, 3)
