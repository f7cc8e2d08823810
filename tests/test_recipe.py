"""Recipes: what they may say, that they run and go on, and that the bundled ones fit the commands they name."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from modules.config.files import (
    config_from_dict,
    mef_config_from_dict,
    rigged_config_from_dict,
    section_from_dict,
    stage_of,
)
from modules.config.small_base import SmallBaseConfig
from modules.errors import UserError
from modules.recipe.reading import Made, filled, read_recipe, recipe_from
from modules.recipe.running import STATE, run_recipe

ROOT = Path(__file__).parent.parent
BUNDLED = sorted((ROOT / "recipes").glob("*.yaml"))
WORLD = "data.synthetic --out {out} --identities 2 --clips 0 --stills 1 --size 16"


def recipe(*steps: dict, **values):
    return recipe_from({"minutes": 1, "steps": [*steps]} | values, Path("r.yaml"))


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_bundled_recipes_have_valid_configurations_and_options(path):
    known = read_recipe(path)
    kinds = {"SID": config_from_dict, "MEF": mef_config_from_dict, "rigged": rigged_config_from_dict}
    places = {step.name: Made(Path("x"), Path("x.yaml")) for step in known.steps} | {"out": Made(Path("x"), Path("x"))}
    for step in known.steps:
        words = [filled(word, places) for word in shlex.split(step.run)]
        options = {word for word in words if word.startswith("--")}
        shown = subprocess.run([sys.executable, "-m", f"modules.{words[0]}", "--help"], capture_output=True, text=True)
        assert not shown.returncode and not {option for option in options if option not in shown.stdout}
        values = filled(known.configs.get(step.name), places)
        if values is None:
            continue
        if "denoiser_train_params" in values:
            section_from_dict(SmallBaseConfig, values, step.name, SmallBaseConfig)
        else:
            kinds[stage_of(values)](values, step.name)


def test_minutes_are_shared_out():
    steps = [{"name": name, "run": "sid", "share": share, "config": {}} for name, share in (("a", 1), ("b", 3))]
    others = {"name": "c", "run": "sid.export"}, {"name": "d", "run": "sid", "share": 0, "config": {}}
    known = recipe(*steps, *others)
    assert [known.minutes_of(step, 20) for step in known.steps] == [5, 15, None, None]


def test_a_step_s_configuration_is_the_recipe_s_but_for_what_it_names(tmp_path):
    (tmp_path / "base.yaml").write_text("a: {b: 1, c: 2}\n")
    steps = [{"name": "x", "run": "sid", "config": {"a": {"c": 3}}}, {"name": "y", "run": "sid", "config": {"d": 4}}]
    common = {"base": "base.yaml", "e": 5}
    known = recipe_from({"minutes": 1, "config": common, "steps": steps}, tmp_path / "recipe.yaml")
    assert known.configs == {"x": {"a": {"b": 1, "c": 3}, "e": 5}, "y": {"a": {"b": 1, "c": 2}, "d": 4, "e": 5}}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], "steps: expected a list"),
        ([{"name": "a", "run": "sid --out {out}"}], "there is {out} in run where the step makes something"),
        ([{"name": "a", "run": "sid", "makes": "b", "config": {"x": "{out}"}}], "cannot be filled in"),
        ([{"name": "a", "run": "sid"}, {"name": "b", "run": "sid --config {a.config}"}], "cannot be filled in"),
        ([{"name": "a", "run": "sid {}"}], "cannot be filled in"),
        ([{"name": "a", "run": "sid 'x"}], "No closing quotation"),
        ([{"name": "a/b", "run": "sid"}], "a name is a letter"),
        ([{"name": "a", "run": "sid"}] * 2, "two steps of this name"),
        ([{"name": "a", "run": "sid.export --checkpoint {b}"}], "needs b, which is no step before it"),
        ([{"name": "a", "run": "sid", "config": {"x": ["{c}"]}}], "needs c, which is no step before it"),
        ([{"name": "a", "run": "sid {"}], "a brace that names no step"),
        ([{"name": "a", "run": "sid", "share": 1}], "a training needs a config"),
        ([{"name": "a", "run": "sid"}, {"name": "b", "run": "sid", "start": "a"}], "which have a share"),
        ([{"name": "a", "run": "sid", "config": 3}], "config: expected a mapping, found 3"),
        ([{"name": "a", "run": "sid", "shar": 1}], "steps[0].shar: expected a known key such as steps[0].share"),
    ],
)
def test_what_is_no_recipe_is_one_line(steps, words):
    with pytest.raises(UserError) as error:
        recipe(*steps)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_steps_that_are_no_list_are_named():
    with pytest.raises(UserError, match="steps: expected a list"):
        recipe_from({"minutes": 1, "steps": 5}, Path("r.yaml"))


def test_what_is_done_is_not_done_again_and_what_is_made_otherwise_is_refused(tmp_path, capfd):
    step = {"name": "a", "run": WORLD, "makes": "world"}
    made = run_recipe(recipe(step), tmp_path)["a"]
    assert Path(made) == tmp_path / "a/world" and sorted(os.listdir(tmp_path / "a")) == ["world"]
    assert "$ python -m modules.data.synthetic" in capfd.readouterr().out
    assert run_recipe(recipe(step), tmp_path) == {"a": made}
    assert "$" not in capfd.readouterr().out
    with pytest.raises(UserError, match="a: was made otherwise"):
        run_recipe(recipe(step | {"run": WORLD + " --seed 1"}), tmp_path)
    (tmp_path / STATE).unlink()  # as if killed after the step's end, before its record was written
    assert run_recipe(recipe(step), tmp_path) == {"a": made}
    (tmp_path / STATE).write_text("[]")
    with pytest.raises(UserError, match="is not what a recipe keeps"):
        run_recipe(recipe(step), tmp_path)


def test_a_failed_step_says_why_and_leaves_nothing(tmp_path, capfd):
    step = {"name": "a", "run": WORLD + " --seed x", "makes": "world"}
    with pytest.raises(SystemExit) as end:
        run_recipe(recipe(step), tmp_path)
    assert end.value.code == 2 and "--seed" in capfd.readouterr().err
    assert not (tmp_path / "a/world").exists()
    run_recipe(recipe(step | {"run": WORLD}), tmp_path)  # put right, it needs no cleaning up
    with pytest.raises(UserError, match="step b has not made thing"):
        run_recipe(
            recipe({"name": "b", "run": WORLD.replace("{out}", str(tmp_path / "else")), "makes": "thing"}), tmp_path
        )


def toy(folder: Path) -> Path:
    """The bundled toy with less to measure."""
    values = yaml.safe_load((ROOT / "recipes/toy.yaml").read_text())
    values["config"]["base"] = str(ROOT / "config/synthetic-64.yaml")
    values["steps"] = [step for step in values["steps"] if step["name"] != "figures"]
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.slow
def test_an_interrupted_recipe_goes_on_and_ends_with_its_file(tmp_path):
    command = [sys.executable, "-m", "modules.recipe", str(toy(tmp_path)), "--minutes", "0.3", "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "out")], cwd=ROOT, start_new_session=True)
    log = tmp_path / "out/keypoints/log"
    while not list(log.glob("*/log.txt")):
        time.sleep(0.1)
        assert process.poll() is None
    time.sleep(3)  # a few steps
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert len(list(log.glob("*/latest-checkpoint.pth.tar"))) == 1
    ended = subprocess.run([*command, str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "all 4 steps are done" in ended.stdout and "data.synthetic" not in ended.stdout
    assert len(list(log.iterdir())) == 1  # the same run went on
    assert (tmp_path / "out/export/sid-toy.pth").stat().st_size > 10_000
    records = json.loads((tmp_path / "out" / STATE).read_text())
    assert all(record["done"] and record["seconds"] > 0 and record["cpu_seconds"] > 0 for record in records.values())
    for name in ("keypoints", "encoders"):  # half of 0.3 minutes each, and what the command itself needs
        assert records[name]["seconds"] >= 9 and records[name]["cpu_seconds"] < 60


def test_what_is_no_recipe_is_named_on_the_command_line(tmp_path):
    (tmp_path / "list.yaml").write_text("[]")
    for given, words in (("nowhere.yaml", "no such file"), (tmp_path / "list.yaml", "expected a recipe")):
        ended = subprocess.run(
            [sys.executable, "-m", "modules.recipe", str(given)], cwd=ROOT, capture_output=True, text=True
        )
        assert ended.returncode == 2 and words in ended.stderr and ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_training_that_continues_another_has_a_run_of_its_own(tmp_path):
    """A run goes on in its folder where the configuration's file has the same name: steps' files have their own."""
    values = yaml.safe_load(toy(tmp_path).read_text())
    people, keypoints = values["steps"][:2]
    train = {"num_repeats": 1, "cosine": False, "visualize_every": 1}
    first = keypoints | {"share": 0}
    first["config"] = keypoints["config"] | {
        "train_params": keypoints["config"]["train_params"] | train | {"num_epochs": 1}
    }
    more = first | {"name": "more", "resume": "keypoints"}
    more["config"] = first["config"] | {"train_params": first["config"]["train_params"] | {"num_epochs": 2}}
    known = recipe_from(values | {"steps": [people, first, more]}, tmp_path / "toy.yaml")
    made = run_recipe(known, tmp_path / "out", device="cpu")
    assert Path(made["keypoints"]).name == "00000000-checkpoint.pth.tar"
    assert Path(made["more"]).name == "00000001-checkpoint.pth.tar" and "/more/log/" in made["more"]
