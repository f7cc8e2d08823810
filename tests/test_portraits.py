"""--mode evaluate of MEF: figures whose right value is known beforehand, and the command on a tiny base."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_measures import SMALL
from test_training import ROOT, environment
from tiny_mef import write_config, write_workshop

from modules import media
from modules.data.synthetic import CATEGORIES, category
from modules.data.synthetic.parameters import neutral
from modules.evaluation.meter import FaceMeter, Reading, save_meter
from modules.evaluation.portraits import Judge, WorldDistance, ask, named, summary
from modules.evaluation.ruler import Ruler
from modules.evaluation.world import PROBE_SEED
from modules.mef.train import train
from modules.sid.encoders import Semantics

PEOPLE, EACH = 12, 4


@pytest.fixture(scope="module")
def asked():
    return ask(PEOPLE, EACH)


def oracle(faces) -> Reading:
    """What a meter without error would read."""
    scene = {name: F.one_hot(category(faces, name), len(words)).float() for name, words in CATEGORIES.items()}
    z_id = F.normalize(faces.identity, dim=1)
    nothing = torch.zeros(faces.size, 68, 2)
    semantics = Semantics(faces.action_units, faces.pose)
    return Reading(faces.identity, faces.action_units, faces.pose, nothing, z_id, semantics, scene, [])


def judge(asked) -> Judge:
    taught = ask(60, 1, PROBE_SEED)
    ruler = Ruler(FaceMeter(SMALL, 32), 1.0, {})
    return Judge(ruler, asked, taught, *map(oracle, (asked.source, asked.truth, taught.truth)))


def test_what_is_asked_for_is_the_persons_face_with_the_drivers_expression_in_another_scene(asked):
    assert torch.equal(asked.truth.identity, asked.source.identity[asked.person])
    assert torch.equal(asked.truth.pose, asked.driver.pose)
    assert torch.equal(asked.truth.action_units, asked.driver.action_units)
    people = torch.cat([asked.source.identity, asked.driver.identity])
    assert len(people.unique(dim=0)) == PEOPLE + PEOPLE * EACH  # nobody drives who is drawn, and nobody twice
    assert (asked.shown != asked.elsewise).all()
    for plain, contradicting in zip(asked.prompts(), asked.prompts(contradict=True), strict=True):
        assert "showing" not in plain and " showing " in contradicting


def test_perfect_portraits_have_perfect_figures_and_other_peoples_have_not(asked):
    figures, attributes = judge(asked).each(oracle(asked.truth))
    row = summary(figures, 0.0, 1.0)
    assert row["first %"] == row["prompt %"] == row["EXP %"] == 100 and row["SEMCHG"] == 1
    assert row["ID"] == pytest.approx(0, abs=1e-6) and row["SIM"] == row["POSE"] == 0
    assert all(float(there.nanmean()) == 1 for there in attributes.values() if not there.isnan().all())

    shifted = oracle(asked.truth.take(torch.arange(asked.truth.size).roll(EACH + 1)))
    row = summary(judge(asked).each(shifted)[0], 0.0, 1.0)
    assert row["first %"] == 0 and row["ID"] > 0.5 and row["EXP %"] == 0 and row["POSE"] > 3
    assert row["SEMCHG"] < 0.5 and row["prompt %"] < 60


def test_only_what_the_caption_says_counts_as_named(asked):
    faces = neutral(2)
    faces.scene[1, list(CATEGORIES).index("hat")] = 1
    assert CATEGORIES["hair_style"][0] == "bald" and CATEGORIES["hat"][0] == "none"
    assert not named(faces, "hair_color").any() and not named(faces, "glasses").any()
    assert named(faces, "hat_color").tolist() == named(faces, "hat").tolist() == [False, True]
    assert named(faces, "background").all()
    for text, glasses in zip(asked.prompts(), named(asked.truth, "glasses").tolist(), strict=True):
        assert ("glasses" in text) == glasses


def test_the_worlds_distance_tells_like_from_unlike():
    torch.manual_seed(0)
    pictures, alike = torch.rand(2, 200, 3, 32, 32)
    distance = WorldDistance(FaceMeter(SMALL, 32).eval(), pictures)
    assert distance(pictures) == pytest.approx(0, abs=1e-3)
    assert distance(alike) < 0.5 * distance(alike.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1) * 0.3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = write_workshop(tmp_path_factory.mktemp("workshop"))
    torch.manual_seed(0)
    save_meter(FaceMeter(SMALL, 32), folder / "meter.pth")
    few = {"meter": str(folder / "meter.pth"), "people": 3, "expressions": 2, "steps": 2}
    config = write_config(folder / "mef.yaml", folder, **{"train_params.num_epochs": 1, "evaluate_params": few})
    train(config, log_dir=folder / "log", cpu=True).rename(folder / "run")
    return folder


def evaluate(folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "run.py", "--config", str(folder / "mef.yaml"), "--cpu", *options]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)


def test_the_command_prints_table_3_and_writes_a_report(trained):
    result = evaluate(trained, "--mode", "evaluate", "--checkpoint", str(trained / "run" / "adapters"))
    assert result.returncode == 0, result.stderr
    folder = trained / "run" / "evaluation"
    figures = json.loads((folder / "metrics.json").read_text())
    rows = figures["portraits"]
    columns = ["ID", "first %", "SEMCHG", "prompt %", "SIM", "EXP %", "POSE", "FD-world", "TIME"]
    assert list(rows["both adapters"]) == columns and all(name in result.stdout for name in columns)
    assert f"{rows['both adapters']['POSE']:.3f}" in result.stdout
    assert rows["render"]["SIM"] == 0 and rows["render"]["TIME"] == 0 < rows["base alone"]["TIME"]
    assert rows["base alone"]["ID"] != rows["no expression adapter"]["ID"] != rows["both adapters"]["ID"]
    assert set(figures["attributes"]) == set(rows)
    assert media.read_image(folder / "sheet.png").shape == (6 * 32, 9 * 32, 3)
    assert "sheet.png" in (folder / "report.html").read_text()


def test_what_cannot_be_evaluated_is_one_line(trained):
    adapters = str(trained / "run" / "adapters")
    result = evaluate(trained, "--mode", "animate", "--checkpoint", adapters)
    assert result.returncode == 2 and "configures MEF; it can be evaluated" in result.stderr
    result = evaluate(trained, "--mode", "evaluate", "--checkpoint", str(trained / "nothing"))
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    (trained / "meter.pth").rename(trained / "elsewhere.pth")
    result = evaluate(trained, "--mode", "evaluate", "--checkpoint", adapters)
    assert result.returncode == 2 and "meter.pth: no such file; train it: python -m" in result.stderr
