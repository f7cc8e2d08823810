"""--mode evaluate of MEF: figures whose right value is known beforehand, and the command on a tiny base."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import scripts
import torch
import torch.nn.functional as F
import yaml
from test_measures import SMALL
from tiny_mef import write_config, write_workshop

from modules import media
from modules.config.files import load_mef_config, stage_of
from modules.evaluation.amplitudes import AMPLITUDES, amplitudes
from modules.evaluation.compare import compare
from modules.evaluation.judges.face_meter import FaceMeter, Reading, save_meter
from modules.evaluation.people import PROBE_SEED
from modules.evaluation.portrait_figures import Features, Judge, WorldDistance, named, read, summary
from modules.evaluation.portrait_tasks import CLASSES, ask
from modules.evaluation.ruler import Ruler
from modules.mef.train import train_mef
from modules.training.command import Run
from modules.world import CATEGORIES, category
from modules.world.parameters import neutral
from modules.world.rendering import render

PEOPLE, EACH = 12, 4


@pytest.fixture(scope="module")
def asked():
    return ask(PEOPLE, EACH)


def oracle(faces) -> Reading:
    """What a meter without error would read."""
    scene = {name: F.one_hot(category(faces, name), len(words)).float() for name, words in CATEGORIES.items()}
    z_id = F.normalize(faces.identity, dim=1)
    nothing = torch.zeros(faces.size, 68, 2)
    return Reading(
        faces.identity, faces.action_units, faces.pose, nothing, z_id, faces.action_units, faces.pose, scene, []
    )


def judge(asked) -> Judge:
    taught = ask(60, 1, PROBE_SEED)
    ruler = Ruler(FaceMeter(SMALL, 32), 1.0, {})
    *read, beside = map(oracle, (asked.source, asked.truth, taught.truth, asked.driver))
    return Judge(ruler, asked, taught, *read, [beside])


def test_what_is_asked_for_is_the_persons_face_with_the_drivers_expression_in_another_scene(asked):
    assert torch.equal(asked.truth.identity, asked.source.identity[asked.person])
    assert torch.equal(asked.truth.pose, asked.driver.pose)
    assert torch.equal(asked.truth.action_units, asked.driver.action_units)
    people = torch.cat([asked.source.identity, asked.driver.identity])
    assert len(people.unique(dim=0)) == PEOPLE + PEOPLE * EACH  # nobody drives who is drawn, and nobody twice
    assert (asked.shown != asked.other).all()
    for i, plain in enumerate(asked.prompts()):
        assert "showing" not in plain
        for which, classes in (("shown", asked.shown), ("other", asked.other)):
            name = CLASSES[classes[i]]  # "a neutral expression", or the name alone
            assert f" showing {name} " in asked.prompts(which)[i].replace("a neutral expression", "neutral")


def test_perfect_portraits_have_perfect_figures_and_other_peoples_have_not(asked):
    figures, attributes = judge(asked).each(oracle(asked.truth))
    row = summary(figures, 0.0, 1.0)
    assert row["first %"] == row["prompt %"] == row["EXP %"] == row["own %"] == 100 and row["SEMCHG"] == 1
    assert row["ID"] == pytest.approx(0, abs=1e-6) and row["SIM"] == row["AU"] == row["POSE"] == 0
    assert all(float(there.nanmean()) == 1 for there in attributes.values() if not there.isnan().all())

    shifted = oracle(asked.truth.take(torch.arange(asked.truth.size).roll(EACH + 1)))
    row = summary(judge(asked).each(shifted)[0], 0.0, 1.0)
    assert row["first %"] == 0 and row["ID"] > 0.5 and row["EXP %"] == 0 and row["POSE"] > 3
    assert row["SEMCHG"] < 0.5 and row["prompt %"] < 60 and row["AU"] > 0.05


def test_a_portrait_of_the_driver_is_told_from_one_of_the_person(asked):
    """The driver's face under what was asked for: everything but the person is right."""
    figures, _ = judge(asked).each(oracle(asked.driver))
    assert float(figures["own %"].max()) == 0 and float(figures["AU"].max()) == 0


def test_amplitudes_are_ratios_in_one_face_and_pupils_follow_the_gaze():
    """On renders with the world's own landmarks: a correlation, since lids and lashes are dark as well."""
    faces = ask(12, 1, close=True).truth
    gaze = torch.stack([torch.linspace(-25, 25, faces.size), torch.zeros(faces.size)], dim=1)
    rendered = render(faces._replace(action_units=0 * faces.action_units, gaze=gaze), 128)
    found = amplitudes((rendered.image * 255).round().byte(), rendered.landmarks)
    for name in ("left pupil", "right pupil"):
        values = found[:, AMPLITUDES.index(name)]
        assert float(torch.corrcoef(torch.stack([values, gaze[:, 0]]))[0, 1]) > 0.6
    small = amplitudes((rendered.image * 255).round().byte(), rendered.landmarks / 2)
    kept = [AMPLITUDES.index(name) for name in ("left eye", "right eye", "mouth")]
    torch.testing.assert_close(small[:, kept], found[:, kept])


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
    pictures, alike = torch.randint(0, 256, (2, 800, 3, 32, 32), dtype=torch.uint8)
    meter = FaceMeter(SMALL, 32).eval()
    known = read(meter, pictures)
    distance = WorldDistance(meter, pictures, known)
    assert distance(pictures) == pytest.approx(0, abs=1e-3)
    coarse = alike[..., ::8, ::8].repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    assert distance(alike) < 0.5 * distance(coarse)
    spread = torch.full((20,), 2.0)
    with torch.inference_mode():
        features = Features(meter, spread)(pictures / 255)
    torch.testing.assert_close(features, torch.cat([known.z_id, known.z_exp, known.z_pose], dim=1) / 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = write_workshop(tmp_path_factory.mktemp("workshop"))
    torch.manual_seed(0)
    save_meter(FaceMeter(SMALL, 32), folder / "meter.pth")
    few = {"meter": str(folder / "meter.pth"), "people": 3, "expressions": 2, "steps": 2}
    config = write_config(folder / "mef.yaml", folder, **{"train_params.num_epochs": 1, "evaluate_params": few})
    train_mef(load_mef_config(config), Run(str(config), log_dir=str(folder / "log"), cpu=True)).rename(folder / "run")
    return folder


def evaluate(folder: Path, *options: str, config: str = "mef.yaml", fresh: bool = False) -> subprocess.CompletedProcess:
    return scripts.run("run.py", "--config", folder / config, "--cpu", *options, fresh=fresh)


def test_the_command_prints_table_3_and_writes_a_report(trained):
    result = evaluate(trained, "--mode", "evaluate", "--checkpoint", str(trained / "run" / "adapters"), fresh=True)
    assert result.returncode == 0, result.stderr
    folder = trained / "run" / "evaluation" / "adapters"
    figures = json.loads((folder / "metrics.json").read_text())
    rows = figures["portraits"]
    columns = [
        "ID",
        "first %",
        "own %",
        "leak",
        "SEMCHG",
        "prompt %",
        "SIM",
        "EXP %",
        "AU",
        "POSE mean",
        "POSE",
        "FD-world",
    ]
    told = [name for name in rows["both adapters"] if name != "LMS"]  # an untrained base draws no faces to be found
    assert told == [*columns, "TIME"] and all(name in result.stdout for name in columns)
    assert f"{rows['both adapters']['POSE']:.3f}" in result.stdout
    assert rows["render"]["SIM"] == 0 and "TIME" not in rows["render"] and rows["base alone"]["TIME"] > 0
    assert rows["base alone"]["ID"] != rows["no expression adapter"]["ID"] != rows["both adapters"]["ID"]
    low, high = figures["intervals"]["portraits"]["both adapters"]["POSE mean"]
    assert low <= rows["both adapters"]["POSE mean"] <= high
    assert "portraits: both adapters: ID" in compare(folder / "metrics.json", folder / "metrics.json")
    assert set(figures["attributes"]) == set(rows)
    assert media.read_image(folder / "sheet.png").shape == (6 * 32, 10 * 32, 3)
    assert "sheet.png" in (folder / "report.html").read_text()


def test_what_cannot_be_evaluated_is_one_line(trained):
    adapters = str(trained / "run" / "adapters")
    result = evaluate(trained)  # --mode train
    assert result.returncode == 2 and "train it with train_mef.py" in result.stderr
    result = evaluate(trained, "--mode", "animate", "--checkpoint", adapters)
    assert result.returncode == 2 and "configures MEF, not SID: train it with train_mef.py" in result.stderr
    result = evaluate(trained, "--mode", "evaluate", "--checkpoint", str(trained / "nothing"))
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    config = yaml.safe_load((trained / "mef.yaml").read_text())
    config["evaluate_params"]["meter"] = str(trained / "none.pth")
    (trained / "unmeasured.yaml").write_text(yaml.safe_dump(config))
    result = evaluate(trained, "--mode", "evaluate", "--checkpoint", adapters, config="unmeasured.yaml")
    assert result.returncode == 2 and "none.pth: no such file; train it: python -m" in result.stderr


@pytest.mark.parametrize("text", ["- a list", "text", ""])
def test_what_is_no_configuration_is_left_to_those_who_read_it(text):
    assert stage_of(yaml.safe_load(text)) is None
