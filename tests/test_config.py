"""Configurations: the published values, what may be written, and the one line for what may not."""

from __future__ import annotations

import copy
import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import yaml

from modules.config import sid as configuration
from modules.config.files import config_from_dict, config_to_dict, load_config, save_config, section_from_dict

CONFIGS = Path(__file__).parents[1] / "config"
PUBLISHED = json.loads((Path(__file__).parent / "data" / "fomm_configs.json").read_text())
SMALLEST = {"dataset_params": {"root_dir": "data"}, "model_params": {}, "train_params": {}}


def leaves(values, path=()):
    """(path, value) of every value of nested mappings; a list is one value."""
    if not isinstance(values, dict):
        return [(path, values)]
    return [leaf for key, value in values.items() for leaf in leaves(value, (*path, key))]


def get(values, path):
    for key in path:
        values = values[key]
    return values


def changed(path, value):
    """The smallest valid configuration with the value at a dotted path set."""
    values = copy.deepcopy(SMALLEST)
    *sections, key = path.split(".")
    place = values
    for name in sections:
        place = place.setdefault(name, {})
    place[key] = value
    return values


# ------------------------------------------------------------------------------------------------ the published values


@pytest.mark.parametrize("name", PUBLISHED)
def test_file_has_the_published_values_and_no_others(name):
    path = CONFIGS / f"{name}.yaml"
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == PUBLISHED[name]
    loaded = config_to_dict(load_config(path))
    for key, value in leaves(PUBLISHED[name]):
        assert get(loaded, key) == value, ".".join(key)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_of_a_file_is_explained(name):
    lines = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    explained = False  # a comment above a group of keys of one kind explains the group
    for line in lines:
        if line.strip().startswith("#"):
            explained = True
        elif line.strip():
            explained = explained and line.startswith(" ") or "#" in line or line.rstrip().endswith("_params:")
            assert explained, line


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values_are_plain_fomm(name):
    config = config_from_dict(PUBLISHED[name])
    assert config.model_params.encoder_params is None
    assert config.dataset_params.frames_per_video == 2
    weights = config_to_dict(config.train_params.loss_weights)
    assert all(not weights[term] for term in weights if term not in PUBLISHED[name]["train_params"]["loss_weights"])


# ------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", PUBLISHED)
def test_saved_configuration_loads_as_the_same(name, tmp_path):
    config = config_from_dict(PUBLISHED[name])
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_every_kind_of_value_survives_a_round_trip(tmp_path):
    values = copy.deepcopy(SMALLEST)
    values["dataset_params"] = {
        "root_dir": [{"path": "clips: ä", "weight": 2}, {"path": "photos"}],
        "augmentation_params": {"rotation_param": {"degrees": [-5, 10]}, "crop_param": {"size": [128, 256]}},
        "cache_dir": "on",
    }
    values["model_params"]["encoder_params"] = {"identity_dim": 64}
    values["train_params"] = {"precision": "bf16", "gradient_clip": 1e-7, "ema_decay": 0.999, "batch_size": 2}
    config = config_from_dict(values)
    assert [root.weight for root in config.dataset_params.roots] == [2, 1]
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_whole_numbers_are_saved_without_a_point(tmp_path):
    """FOMM's own code names modules after the scale as it is written: discs.1, not discs.1-0."""
    save_config(config_from_dict(PUBLISHED["vox-256"]), tmp_path / "config.yaml")
    assert "scales: [1]\n" in (tmp_path / "config.yaml").read_text()


def test_configuration_cannot_be_changed():
    config = config_from_dict(SMALLEST)
    with pytest.raises(FrozenInstanceError):
        config.train_params.batch_size = 2


def test_lists_are_not_shared_between_configurations():
    first, second = (config_from_dict(SMALLEST).train_params.scales for _ in range(2))
    assert first == second and first is not second


def test_one_root_has_weight_one():
    (root,) = config_from_dict(SMALLEST).dataset_params.roots
    assert (root.path, root.weight) == ("data", 1)


def test_section_alone():
    model = section_from_dict(configuration.ModelParams, {"common_params": {"num_kp": 4}})
    assert model.common_params.num_kp == 4


# -------------------------------------------------------------------------------------------------- spellings, absence


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.0e-4", ".0001", "0.0001", "+1e-04", '"0.0001"'])
def test_any_spelling_of_a_number_is_that_number(text, tmp_path):
    path = tmp_path / "config.yaml"
    text = f"dataset_params: {{root_dir: data}}\nmodel_params: {{}}\ntrain_params: {{lr_generator: {text}}}\n"
    path.write_text(text)
    assert load_config(path).train_params.lr_generator == 1e-4


@pytest.mark.parametrize("value", [50, 50.0, "50", "5e1", "50.0", "0.5e2"])
def test_a_whole_number_may_be_spelt_as_a_fraction(value):
    batch_size = config_from_dict(changed("train_params.batch_size", value)).train_params.batch_size
    assert batch_size == 50 and type(batch_size) is int


def test_one_perceptual_weight_stands_for_all_five():
    config = config_from_dict(changed("train_params.loss_weights.perceptual", "1e1"))
    assert config.train_params.loss_weights.perceptual == [10.0] * 5


def test_one_number_is_a_square_crop():
    crop = config_from_dict(changed("dataset_params.augmentation_params.crop_param.size", 128))
    assert crop.dataset_params.augmentation_params.crop_param.size == (128, 128)


@pytest.mark.parametrize(
    "path",
    [
        "reconstruction_params",
        "animate_params.normalization_params",
        "visualizer_params",
        "model_params.encoder_params",
        "model_params.generator_params.dense_motion_params",
        "train_params.loss_weights",
        "dataset_params.pairs_list",
        "dataset_params.augmentation_params",
        "dataset_params.augmentation_params.flip_param",
        "train_params.ema_decay",
    ],
)
def test_null_for_what_is_optional_is_the_same_as_leaving_it_out(path):
    assert config_from_dict(changed(path, None)) == config_from_dict(SMALLEST)
