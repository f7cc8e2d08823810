"""What a configuration may not say is one line with the way to the value."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from test_config import CONFIGS, SMALLEST, changed
from tiny import write_tiny

from modules.config.files import config_from_dict, load_config, save_config, stage_of
from modules.config.schema import read_yaml
from modules.errors import UserError


def error_of(values):
    with pytest.raises(UserError) as caught:
        config_from_dict(values, where="my.yaml")
    message = str(caught.value)
    assert message.startswith("my.yaml: ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    "path, nearest",
    [
        ("train_params.lr_genrator", "train_params.lr_generator"),
        ("train_params.loss_weights.perceptuel", "train_params.loss_weights.perceptual"),
        (
            "model_params.generator_params.dense_motion_params.kp_varience",
            "model_params.generator_params.dense_motion_params.kp_variance",
        ),
        ("datasets_params", "dataset_params"),
        ("model_params.batch_size", "train_params.batch_size"),  # the right name in the wrong section
    ],
)
def test_unknown_key_names_the_nearest(path, nearest):
    message = error_of(changed(path, 1))
    assert message == f"my.yaml: {path}: expected a known key such as {nearest}, found an unknown key"


def test_options_of_earlier_versions_are_ignored_with_one_line(caplog):
    values = changed("train_params.loss_weights", {"independence": "much", "pose_equivariance": 5, "pixel": 3})
    assert config_from_dict(values) == config_from_dict(changed("train_params.loss_weights", {"pixel": 3}))
    (line,) = caplog.messages
    assert "loss_weights.independence (measured to matter nothing), train_params.loss_weights.pose_equiv" in line


def test_unknown_key_like_no_other_lists_the_choice():
    message = error_of(changed("model_params.common_params.zzz", 1))
    assert "expected one of num_kp, num_channels, estimate_jacobian, found an unknown key" in message


@pytest.mark.parametrize(
    "path, value, expected",
    [
        ("train_params.batch_size", 2.5, "expected a whole number >= 1, found 2.5"),
        ("train_params.batch_size", True, "expected a whole number >= 1, found true"),
        ("train_params.batch_size", 0, "expected a whole number >= 1, found 0"),
        ("train_params.batch_size", "many", "expected a whole number >= 1, found 'many'"),
        ("train_params.batch_size", None, "expected a whole number >= 1, found null"),
        ("train_params.batch_size", [1], "expected a whole number >= 1, found the list [1]"),
        ("train_params.lr_generator", float("nan"), "expected a number >= 0, found nan"),
        ("train_params.lr_generator", "1e999", "expected a number >= 0, found '1e999'"),
        ("train_params.lr_generator", -1e-4, "expected a number >= 0, found -0.0001"),
        ("train_params.num_epochs", 10**400, "expected a whole number >= 1, found 1000"),
        ("train_params.ema_decay", 1, "expected a number >= 0 and < 1 or null, found 1"),
        ("train_params.head_probability", 1.5, "expected a number >= 0 and <= 1, found 1.5"),
        ("train_params.precision", "fp16", "expected auto or fp32 or bf16, found 'fp16'"),
        (
            "train_params.epoch_milestones",
            [90, 60],
            "expected a list in increasing order, each a whole number >= 1, found",
        ),
        (
            "train_params.epoch_milestones",
            60,
            "expected a list in increasing order, each a whole number >= 1, found 60",
        ),
        ("train_params.scales", [], "expected a list, each a number 1/n for a whole n, found the list []"),
        (
            "train_params.loss_weights.perceptual",
            [1, 2],
            "expected a list of 5, each a number >= 0, found the list [1, 2]",
        ),
        ("train_params.loss_weights", 3, "expected a mapping with the keys generator_gan, discriminator_gan"),
        ("model_params.kp_detector_params.scale_factor", 0.3, "expected a number 1/n for a whole n, found 0.3"),
        ("model_params.kp_detector_params.scale_factor", 0, "expected a number 1/n for a whole n, found 0"),
        (
            "model_params.encoder_params.block_expansion",
            12,
            "expected a whole number >= 8 and a multiple of 8, found 12",
        ),
        ("dataset_params.id_sampling", "yes", "expected true or false, found 'yes'"),
        ("dataset_params.id_sampling", 1, "expected true or false, found 1"),
        (
            "dataset_params.root_dir",
            2020,
            "expected text or a list, each a mapping with the keys path, weight, found 2020",
        ),
        ("dataset_params.root_dir", "", "expected text or a list"),
        ("dataset_params.root_dir", [], "expected text or a list"),
        (
            "dataset_params.frame_shape",
            [256, 256],
            "expected a list of 3: [a whole number >= 1, a whole number >= 1, 3], found the list [256, 256]",
        ),
        ("dataset_params.frames_per_video", 1, "expected a whole number >= 2, found 1"),
        ("dataset_params.augmentation_params.resize_param.ratio", [1.1, 0.9], "in increasing order"),
        ("dataset_params.augmentation_params.jitter_param.hue", 0.6, "expected a number >= 0 and <= 0.5, found 0.6"),
        ("model_params.common_params.num_channels", 1, "expected 3, found 1"),
        (
            "model_params.discriminator_params.num_blocks",
            10**9,
            "expected a whole number >= 1 and <= 10, found 1000000000",
        ),
        ("reconstruction_params.format", "mp4", "expected .mp4 or .m4v or .mov or .mkv or .webm or .gif, found 'mp4'"),
        ("train_params.batch\nsize", 1, "expected a known key such as train_params.batch_size, found an unknown key"),
        ("animate_params.motion", "head", "expected embedding or keypoints or null, found 'head'"),
        ("visualizer_params.kp_size", {"a": 1}, "expected a whole number >= 1, found the mapping {'a': 1}"),
    ],
)
def test_wrong_value_is_named_with_what_was_expected(path, value, expected):
    message = error_of(changed(path, value))
    assert message.startswith(f"my.yaml: {' '.join(path.split())}: ") and expected in message
    assert len(message) < 450  # the longest names every loss


def test_value_within_a_list_is_named_by_its_place():
    values = changed("dataset_params.root_dir", [{"path": "a"}, {"path": "b", "weight": 0}])
    assert error_of(values) == "my.yaml: dataset_params.root_dir[1].weight: expected a number > 0, found 0"
    values = changed("dataset_params.root_dir", [{"weight": 1}])
    assert error_of(values) == "my.yaml: dataset_params.root_dir[0].path: expected text, found nothing: it is missing"
    values = changed("dataset_params.frame_shape", [256, 128, 3]) | {"framing_params": {}}
    expected = "dataset_params.frame_shape: expected a square where there are framing_params, found 256 x 128"
    assert error_of(values) == f"my.yaml: {expected}"
    values = changed("dataset_params.frame_shape", [256, 256, 1])
    assert error_of(values) == "my.yaml: dataset_params.frame_shape[2]: expected 3, found 1"


@pytest.mark.parametrize("name", ["dataset_params", "model_params", "train_params"])
@pytest.mark.parametrize("how", ["absent", "null"])
def test_missing_section_is_named(name, how):
    values = {**SMALLEST, name: None}
    if how == "absent":
        del values[name]
    message = error_of(values)
    assert message.startswith(f"my.yaml: {name}: expected a mapping with the keys ")
    assert message.endswith("found nothing: it is missing")


@pytest.mark.parametrize(
    "text, expected",
    [
        (None, "cannot read the configuration: No such file or directory"),
        ("", "the file is empty; expected the sections dataset_params, model_params"),
        ("# nothing\n", "the file is empty"),
        ("- a\n- b\n", "top level: expected a mapping with the keys dataset_params, "),
        ("a: 1\nb: ]\n", "not valid YAML at line 2: "),
        ("a: \x00", "not valid YAML: "),
        ("a: 2020-99-99", "not valid YAML: month must be in 1..12"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "not valid YAML at line 3: the key c is given twice"),
        ("a: !!python/object:os.system {}\n", "not valid YAML at line 1: could not determine a constructor"),
    ],
)
def test_bad_file_is_one_line(text, expected, tmp_path):
    path = tmp_path / "my.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {expected}") and "\n" not in message


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(UserError, match="cannot read the configuration: Is a directory"):
        load_config(tmp_path)


def test_anchors_may_be_merged(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "dataset_params: {root_dir: data}\nmodel_params: {}\ntrain_params: {}\n"
        "reconstruction_params: &shared {format: .gif}\nanimate_params: {<<: *shared, num_pairs: 3}\n"
    )
    assert load_config(path).animate_params.format == ".gif"


def test_failed_save_leaves_nothing(tmp_path):
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        save_config(config_from_dict(SMALLEST), tmp_path / "config.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


# -------------------------------------------------------------------------------- values that must fit one another


def test_hourglass_must_halve_evenly():
    assert error_of(changed("dataset_params.frame_shape", [96, 96, 3])) == (
        "my.yaml: model_params.kp_detector_params.num_blocks: expected dataset_params.frame_shape * scale_factor "
        "divisible by 2**num_blocks = 32, found 96 * 0.25 = 24"
    )
    values = changed("model_params.generator_params.dense_motion_params.num_blocks", 7)
    assert "my.yaml: model_params.generator_params.dense_motion_params.num_blocks: expected" in error_of(values)


def test_crop_must_fit_the_networks_too():
    message = error_of(changed("dataset_params.augmentation_params.crop_param.size", [256, 200]))
    assert "augmentation_params.crop_param.size * scale_factor divisible by 2**num_blocks = 32, found 200" in message


def test_generator_must_halve_evenly():
    values = changed("model_params.kp_detector_params", {"scale_factor": 1, "num_blocks": 1})
    values["dataset_params"]["frame_shape"] = [256, 66, 3]
    expected = "height and width divisible by 2**model_params.generator_params.num_down_blocks = 4, found 256 x 66"
    assert error_of(values) == f"my.yaml: dataset_params.frame_shape: expected {expected}"


def test_skips_need_an_occlusion_map():
    values = changed("model_params.generator_params.skips", True)
    values["model_params"]["generator_params"]["estimate_occlusion_map"] = False
    expected = "generator_params.skips: expected false without dense motion and occlusion map, found true"
    assert expected in error_of(values)


def test_terms_about_motion_need_what_they_are_about():
    values = changed("model_params.common_params.num_kp", 1)
    values["train_params"]["loss_weights"] = {"keypoint_prior": 2}
    assert "keypoint_prior: expected 0 where model_params.common_params.num_kp is 1, found 2" in error_of(values)


def test_small_frames_need_padded_heat_maps_and_a_short_pyramid():
    values = changed("dataset_params.frame_shape", [16, 16, 3])
    detector = values["model_params"]["kp_detector_params"] = {"num_blocks": 2}
    values["train_params"]["scales"] = [1]
    assert "kp_detector_params.pad: expected heat maps of at least 2 pixels" in error_of(values)
    detector["pad"] = 3
    config_from_dict(values)


def test_perceptual_network_needs_sixteen_pixels_at_the_smallest_scale():
    values = changed("dataset_params.frame_shape", [64, 64, 3])
    values["model_params"]["kp_detector_params"] = {"num_blocks": 3}
    assert error_of(values) == (
        "my.yaml: train_params.scales: expected scale * frame size >= 16 pixels, "
        "which the perceptual network needs, found 0.125 * 64 = 8"
    )
    values["train_params"]["scales"] = [1, 0.5, 0.25]
    config_from_dict(values)
    values["train_params"] = {"loss_weights": {"perceptual": 0}}
    config_from_dict(values)


@pytest.mark.parametrize(
    "path",
    [
        "train_params.loss_weights.identity_contrast",
        "train_params.loss_weights.cycle_semantics",
        "train_params.loss_weights.motion_value",
        "train_params.head_probability",
    ],
)
def test_terms_of_the_encoders_need_encoders(path):
    values = changed(path, 0.5)
    assert error_of(values) == f"my.yaml: {path}: expected 0 where model_params.encoder_params is missing, found 0.5"
    values["model_params"]["encoder_params"] = {}
    values["train_params"]["batch_size"] = 2  # one item alone has nobody to differ from
    config_from_dict(values)


def test_faces_that_are_to_be_alike_are_also_to_be_found_where_they_are():
    values = changed("train_params.loss_weights.congealing", 1)
    values["model_params"]["encoder_params"] = {}
    assert "congealing: expected 0 where model_params.encoder_params.face_pixels is null, found 1" in error_of(values)
    values["model_params"]["encoder_params"] = {"face_pixels": 64}
    assert "placement: expected above 0 where train_params.loss_weights.congealing is not 0" in error_of(values)
    values["train_params"]["loss_weights"] |= {"placement": 1, "face": 1}
    config_from_dict(values)
    values["train_params"]["loss_weights"] |= {"pixel": 0, "perceptual": 0}
    assert "face: expected 0 where train_params.loss_weights.pixel and .perceptual are 0" in error_of(values)


def test_the_face_world_configuration_without_its_starred_options_is_plain_fomm():
    lines = (CONFIGS / "synthetic-128.yaml").read_text().splitlines()
    values = yaml.safe_load("\n".join(line for line in lines if "# *" not in line))
    del values["model_params"]["encoder_params"]
    assert config_from_dict(values).train_params.rendered_share == 1
    files = (CONFIGS / f"synthetic-128{stage}.yaml" for stage in ("", "-encoders", "-adv"))
    joint, encoders, adversarial = (load_config(file).model_params for file in files)
    assert adversarial == encoders == replace(joint, encoder_params=encoders.encoder_params)


SKIPS = {"skips": True, "estimate_occlusion_map": True, "dense_motion_params": {}}


def test_an_expression_that_is_taught_by_itself_is_not_asked_for_by_other_losses():
    values = changed("train_params", {"batch_size": 2, "loss_weights": {"expression_invariance": 1}})
    values["model_params"]["encoder_params"] = {"own_expression": True, "face_pixels": 64}
    assert "own_expression: expected false where model_params.generator_params.skips is false" in error_of(values)
    values["model_params"]["generator_params"] = SKIPS
    assert "expression_invariance: expected 0 with model_params.encoder_params.own_expression" in error_of(values)
    values["train_params"]["loss_weights"]["expression_invariance"] = 0
    config_from_dict(values)


def test_a_motion_head_that_learns_alone_has_something_to_learn_from():
    train = {"lr_encoders": 0, "lr_motion_head": 1e-3, "batch_size": 2}
    train["loss_weights"] = {"identity_contrast": 1}
    values = changed("train_params", train)
    values["model_params"]["encoder_params"] = {}
    assert "train_params.lr_motion_head: expected 0 or null where nothing asks for its key" in error_of(values)
    for asks in ({"loss_weights": {"motion_value": 1}, "rendered_share": 0}, {"head_probability": 1}):
        values["train_params"] = train | asks
        config_from_dict(values)


def test_pictures_are_not_made_of_another_identity_than_in_use():
    values = changed("train_params", {"loss_weights": {"identity_contrast": 1}, "batch_size": 2})
    values["model_params"]["encoder_params"] = {"mirrored_identity": True}
    assert "train_params.rendered_share: expected 0 with model_params.encoder_params.mirrored" in error_of(values)
    values["train_params"] = {"lr_encoders": 0}
    config_from_dict(values)


def test_an_expression_encoder_needs_a_face():
    values = changed("model_params.encoder_params", {"own_expression": True})
    assert "own_expression: expected false where model_params.encoder_params.face_pixels is null" in error_of(values)
    values["model_params"] |= {"generator_params": SKIPS}
    values["model_params"]["encoder_params"]["face_pixels"] = 64
    config_from_dict(values)


def test_motion_from_the_embedding_needs_encoders():
    message = error_of(changed("animate_params.motion", "embedding"))
    assert "animate_params.motion: expected keypoints or null where model_params.encoder_params is missing" in message


def test_discriminator_sees_only_scales_of_the_pyramid():
    values = changed("model_params.discriminator_params.scales", [1, 0.2])
    config_from_dict(values)  # no adversarial term: the discriminator is not used
    values["train_params"]["loss_weights"] = {"generator_gan": 1}
    assert "scales: expected scales among train_params.scales = [1, 0.5, 0.25, 0.125], found 0.2" in error_of(values)


def test_feature_matching_has_a_weight_for_each_block():
    values = changed("train_params.loss_weights", {"generator_gan": 1, "feature_matching": [10]})
    expected = "a weight for each of discriminator_params.num_blocks = 4 blocks, found 1 weights"
    assert error_of(values) == f"my.yaml: train_params.loss_weights.feature_matching: expected {expected}"
    values["train_params"]["loss_weights"]["feature_matching"] = []
    config_from_dict(values)


def test_discriminator_keeps_some_patches():
    """Four blocks need 64 pixels: 64 -> 61, 30 -> 27, 13 -> 10, 5 -> 2 after each convolution and pooling."""
    values = changed("model_params.kp_detector_params", {"num_blocks": 3})
    values["dataset_params"]["frame_shape"] = [64, 64, 3]
    values["train_params"] = {"loss_weights": {"generator_gan": 1, "perceptual": 0}}
    config_from_dict(values)
    values["model_params"]["discriminator_params"] = {"scales": [1, 0.5]}
    assert "num_blocks: expected blocks that leave at least 2 x 2 patches of 32 pixels" in error_of(values)


def test_encoders_halve_no_more_than_the_frame_allows():
    values = changed("model_params.encoder_params", {"num_blocks": 9})
    expected = "dataset_params.frame_shape * scale_factor >= 2**num_blocks = 512, found 256"
    assert error_of(values) == f"my.yaml: model_params.encoder_params.num_blocks: expected {expected}"


def test_a_file_holds_what_differs_from_its_base(tmp_path):
    """Over two steps, from another folder; lists replace, a null takes an optional section out."""
    (tmp_path / "below").mkdir()
    write_tiny(tmp_path / "below" / "tiny.yaml", **{"train_params.scales": [1, 0.5]})
    (tmp_path / "middle.yaml").write_text("base: below/tiny.yaml\ntrain_params: {scales: [1], batch_size: 8}\n")
    (tmp_path / "top.yaml").write_text("base: middle.yaml\ntrain_params: {seed: 7}\n")
    config, below = load_config(tmp_path / "top.yaml"), load_config(tmp_path / "below" / "tiny.yaml")
    assert config.train_params == replace(below.train_params, scales=[1], batch_size=8, seed=7)
    assert replace(config, train_params=below.train_params) == below
    assert stage_of(read_yaml(tmp_path / "top.yaml")) == "SID"


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("nowhere.yaml", "nowhere.yaml: cannot read the configuration"),
        ("[1]", "base: expected the path of a YAML file, found"),
        ("top.yaml", "top.yaml is itself based on this file"),
    ],
)
def test_a_base_that_cannot_be_is_one_line(tmp_path, base, message):
    (tmp_path / "top.yaml").write_text(f"base: {base}\n")
    with pytest.raises(UserError, match=message):
        load_config(tmp_path / "top.yaml")
