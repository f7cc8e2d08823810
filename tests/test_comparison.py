"""benchmarks/comparison.py: what its runs differ in, when they are run again, and what its tables say."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import comparison, comparison_table
from modules.config.files import config_from_dict
from modules.errors import UserError
from modules.sid.model import SID


@pytest.fixture
def runs(tmp_path) -> comparison.Runs:
    folders = {name: tmp_path / name for name in ("clips", "calm", "stills")}
    args = argparse.Namespace(out=tmp_path / "out", length=1.0, workers=0, pairs=3, probe_people=20, **folders)
    return comparison.Runs(args, seed=5)


def all_settings(runs: comparison.Runs) -> dict[str, comparison.Settings]:
    steps = {step: runs.settings(step, 4) for step in (*comparison.LOSSES, comparison.FOMM_STEPS, comparison.FOMM_TIME)}
    ablated = {
        f"{step} without {term}": runs.settings(step, 4, without=term)
        for step, terms in comparison.ABLATED.items()
        for term in terms
    }
    return steps | ablated


def test_every_run_has_a_valid_configuration(runs):
    for name, settings in all_settings(runs).items():
        config = config_from_dict(settings, where=name)
        assert config.train_params.seed == 5 and config.train_params.num_epochs == 4


def test_fomm_is_as_large_as_sid(runs):
    counts = [
        sum(p.numel() for p in SID(config_from_dict(runs.settings(step, 4), where=step).model_params).parameters())
        for step in ("generator", comparison.FOMM_STEPS, comparison.FOMM_TIME)
    ]
    assert counts[1] == counts[2] and abs(counts[1] / counts[0] - 1) < 0.05


def test_one_term_is_left_out_and_nothing_else(runs):
    terms = [(step, term) for step, terms in comparison.ABLATED.items() for term in terms if term != comparison.STILLS]
    for step, term in terms:
        whole, without = runs.settings(step, 4), runs.settings(step, 4, without=term)
        assert whole["train_params"]["loss_weights"].pop(term) > 0
        assert without["train_params"]["loss_weights"].pop(term) == 0
        assert without == whole


def test_without_stills_an_epoch_has_as_many_items(runs):
    whole, without = runs.settings("encoders", 4), runs.settings("encoders", 4, without=comparison.STILLS)
    roots = [[root["path"] for root in settings["dataset_params"].pop("root_dir")] for settings in (whole, without)]
    assert roots == [[str(runs.args.clips), str(runs.args.stills)], [str(runs.args.clips)]]
    assert [settings["train_params"].pop("num_repeats") for settings in (whole, without)] == [1, 2]
    assert without == whole


def test_all_runs_are_one_recipe(runs):
    runs.fomm()
    runs.sid()
    runs.ablations()
    recipe = runs.recipe
    steps = {step.name: step for step in recipe.steps}
    assert {"fomm", "expressions", "generator", "evaluate generator", "encoders without stills"} <= steps.keys()
    assert "evaluate encoders without stills" not in steps and "export encoders without stills" in steps
    assert all(recipe.minutes_of(step, 1) is None for step in recipe.steps)  # epochs end them
    for name in (comparison.FOMM_STEPS, comparison.FOMM_TIME):
        assert recipe.configs["fomm"]["train_params"]["num_epochs"] < recipe.configs[name]["train_params"]["num_epochs"]


def test_time_is_that_of_all_that_a_run_came_from(runs):
    runs.sid()
    steps = {step.name: step for step in runs.recipe.steps}
    assert comparison.lineage(steps, "generator") == ["generator", "expressions", "encoders", "keypoints"]


def measured(folder: Path, ways: dict[str, list[float]], by: str = "meter") -> None:
    """A run's figures: for each way of driving one number a pair, in every column."""
    reenactment = {way: dict.fromkeys(comparison_table.SHOWN, values) for way, values in ways.items()}
    path = folder / comparison_table.METRICS
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"measured": by, "each": {"reenactment": reenactment}}))
    (folder / comparison_table.DONE).write_text(json.dumps({"seconds": 60, "parameters": 10}))


def test_sid_is_set_against_the_best_way_of_fomm_seed_by_seed(tmp_path, capsys):
    for seed, more in ((0, 0.0), (1, 2.0)):
        measured(tmp_path / str(seed) / "generator", {"embedding": [4 + more, 6 + more], "no motion": [1, 1]})
        fomm = {"absolute": [3, 5], "relative": [2, 2], "absolute, static driver": [9, 9]}
        measured(tmp_path / str(seed) / comparison_table.FOMM_STEPS, fomm)
    comparison_table.show(tmp_path, [0, 1])
    found = json.loads((tmp_path / "comparison.json").read_text())
    (question,) = found["differences"]
    assert question == "generator: embedding less fomm equal steps: absolute"
    apart, sure, seeds = found["differences"][question]["PSNR"]
    assert apart == pytest.approx(2) and sure == pytest.approx([2, 2]) and seeds == pytest.approx([1, 3])
    assert found["means"]["no motion"]["AU"] == 1
    assert "+2.000 (+2.000 to +2.000; +1.000, +3.000)" in capsys.readouterr().out


def test_what_is_left_out_is_set_against_the_whole(tmp_path):
    measured(tmp_path / "0" / "generator", {"embedding": [4, 6]})
    measured(tmp_path / "0" / "generator without face", {"embedding": [3, 4]})
    for name, people in ((comparison_table.BRIEFLY, [0.0, 1.0]), ("encoders without congealing", [0.0, 0.5])):
        z = {part: {what: people for _, what in comparison_table.KNOWN} for part in ("z_id", "z_sem")}
        means = {part: {what: sum(people) / 2 for what in known} for part, known in z.items()}
        path = tmp_path / "0" / name / comparison_table.METRICS
        path.parent.mkdir(parents=True)
        figures = {"disentanglement": {"model": means}, "each": {"model": z}}
        path.write_text(json.dumps({"measured": "meter"} | figures))
        (tmp_path / "0" / name / comparison_table.DONE).write_text(json.dumps({"seconds": 60, "parameters": 10}))
    comparison_table.show(tmp_path, [0])
    found = json.loads((tmp_path / "comparison.json").read_text())["differences"]
    assert found["generator without face: embedding less generator: embedding"]["SSIM"][0] == pytest.approx(-1.5)
    known = found["encoders without congealing less encoders briefly"]
    assert known["z_id rank1"][0] == pytest.approx(-0.25) and known["z_sem pitch"][2] == pytest.approx([-0.25])


def test_figures_of_two_measuring_networks_are_not_mixed(tmp_path):
    with pytest.raises(UserError, match="nothing is measured there yet"):
        comparison_table.show(tmp_path, [0])
    measured(tmp_path / "0" / "generator", {"embedding": [1, 2]})
    measured(tmp_path / "0" / comparison_table.FOMM_TIME, {"absolute": [1, 2]}, by="another")
    with pytest.raises(UserError, match="measured in different ways"):
        comparison_table.show(tmp_path, [0])
