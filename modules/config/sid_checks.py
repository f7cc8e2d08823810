"""Values of a configuration that must fit one another: sizes the networks can be built for, terms that need a part."""

from __future__ import annotations

from typing import Any

from .data import DatasetParams
from .schema import BadValue, to_values
from .sid import Config, ModelParams

_ENCODER_TERMS = (
    "placement",
    "congealing",
    "identity_contrast",
    "semantic_contrast",
    "expression_invariance",
    "cycle_identity",
    "cycle_semantics",
    "motion_value",
    "motion_jacobian",
    "semantic_flow",
    "face",
)

_DISCRIMINATORS = ("discriminator_gan", "feature_matching")  # which count with generator_gan alone

# those that need nothing rendered
_PICTURE_TERMS = (
    "placement",
    "congealing",
    "identity_contrast",
    "semantic_contrast",
    "expression_invariance",
    "motion_value",
)


def check_together(config: Config) -> None:
    """Raise :class:`BadValue` where options contradict each other or the networks cannot be built from them."""
    _check_sizes(config)
    _check_motion(config)
    if config.train_params.loss_weights.generator_gan > 0:
        _check_adversarial(config)
    _check_learners(config)
    _check_rendered(config)
    if config.model_params.encoder_params is None:
        _check_without_encoders(config)
    else:
        _check_encoders(config)
        _check_contrast(config)


def _check_learners(config: Config) -> None:
    """Something learns, and has something to learn from."""
    train = config.train_params
    has_encoders = config.model_params.encoder_params is not None
    learning = [train.lr_generator, train.lr_kp_detector] if train.rendered_share else []
    if not any([*learning, *([train.lr_encoders, train.lr_motion_head] if has_encoders else [])]):
        where = "lr_encoders" if has_encoders else "lr_generator"
        raise BadValue(f"train_params.{where}", "above 0 where no other network learns", "0")
    weights = train.loss_weights
    if not any(
        any(w) if isinstance(w, list) else w for name, w in vars(weights).items() if name not in _DISCRIMINATORS
    ):
        raise BadValue("train_params.loss_weights", "one at least that is not 0", "0 for all")
    if has_encoders and train.lr_motion_head:
        shown = train.rendered_share and (train.head_probability or weights.cycle_identity or weights.cycle_semantics)
        if not any([shown, weights.motion_value, weights.motion_jacobian]):
            expected = "0 or null where nothing asks for its key points: head_probability, motion_value, ..."
            raise BadValue("train_params.lr_motion_head", expected, f"{train.lr_motion_head:g}")


def _check_rendered(config: Config) -> None:
    train = config.train_params
    if train.rendered_share < 1 and config.model_params.encoder_params is None:
        expected = "1 without model_params.encoder_params"
        raise BadValue("train_params.rendered_share", expected, f"{train.rendered_share:g}")
    if train.rendered_share:
        return
    weights = train.loss_weights
    if weights.generator_gan:
        raise BadValue("train_params.rendered_share", "above 0 where loss_weights.generator_gan is not 0", "0")
    if not any(getattr(weights, term) for term in _PICTURE_TERMS):
        raise BadValue("train_params.rendered_share", f"above 0 where all of {', '.join(_PICTURE_TERMS)} are 0", "0")


def _check_sizes(config: Config) -> None:
    data, train = config.dataset_params, config.train_params
    _check_frame(config.model_params, "dataset_params.frame_shape", data.frame_shape[:2])
    height, width = data.frame_shape[:2]
    if config.framing_params is not None and height != width:
        raise BadValue("dataset_params.frame_shape", "a square where there are framing_params", f"{height} x {width}")
    crop = data.augmentation_params.crop_param
    if crop is not None:  # what training then sees
        _check_frame(config.model_params, "dataset_params.augmentation_params.crop_param.size", crop.size)
    scale, side = min(train.scales), _smallest_side(data)
    if any(train.loss_weights.perceptual) and side * scale < 16:  # its five stages halve four times
        expected = "scale * frame size >= 16 pixels, which the perceptual network needs"
        raise BadValue("train_params.scales", expected, f"{scale:g} * {side} = {side * scale:g}")


def _smallest_side(data: DatasetParams) -> int:
    crop = data.augmentation_params.crop_param
    return min(*data.frame_shape[:2], *(crop.size if crop else ()))


def _check_frame(model: ModelParams, path: str, shape: tuple[int, ...]) -> None:
    """Whether the networks fit frames of this size, which the option at ``path`` sets."""
    detector, generator = model.kp_detector_params, model.generator_params
    motion = generator.dense_motion_params
    _check_hourglass("model_params.kp_detector_params", detector, path, shape)
    if motion is not None:
        _check_hourglass("model_params.generator_params.dense_motion_params", motion, path, shape)
    if generator.skips and (motion is None or not generator.estimate_occlusion_map):
        raise BadValue("model_params.generator_params.skips", "false without dense motion and occlusion map", "true")
    step = 2**generator.num_down_blocks
    if any(side % step for side in shape):
        expected = f"height and width divisible by 2**model_params.generator_params.num_down_blocks = {step}"
        raise BadValue(path, expected, f"{shape[0]} x {shape[1]}")
    heat_map = min(shape) * detector.scale_factor + 2 * detector.pad - 6  # a 7x7 convolution takes 6 off
    if heat_map < 2:  # a grid of one point has no extent
        expected = f"heat maps of at least 2 pixels ({path} * scale_factor + 2 * pad - 6; pad 3 keeps the size)"
        raise BadValue("model_params.kp_detector_params.pad", expected, f"{heat_map:g}")
    encoder = model.encoder_params
    whole = encoder is not None and encoder.face_pixels is None
    if whole and min(shape) * encoder.scale_factor < 2**encoder.num_blocks:
        expected = f"{path} * scale_factor >= 2**num_blocks = {2**encoder.num_blocks}"
        raise BadValue("model_params.encoder_params.num_blocks", expected, f"{min(shape) * encoder.scale_factor:g}")


def _check_hourglass(path: str, network: Any, frame: str, shape: tuple[int, ...]) -> None:
    """Its skips join maps that were halved and doubled again: every halving must come out even."""
    step = 2**network.num_blocks
    for side in shape:
        if side * network.scale_factor % step:
            expected = f"{frame} * scale_factor divisible by 2**num_blocks = {step}"
            found = f"{side} * {network.scale_factor:g} = {side * network.scale_factor:g}"
            raise BadValue(f"{path}.num_blocks", expected, found)


def _check_adversarial(config: Config) -> None:
    discriminator, train = config.model_params.discriminator_params, config.train_params
    for scale in discriminator.scales:
        if scale not in train.scales:
            expected = f"scales among train_params.scales = {to_values(train.scales)}"
            raise BadValue("model_params.discriminator_params.scales", expected, f"{scale:g}")
    side = int(_smallest_side(config.dataset_params) * min(discriminator.scales))
    patches = side
    for block in range(discriminator.num_blocks):
        patches = (patches - 3) // (1 if block == discriminator.num_blocks - 1 else 2)  # convolution, pooling
    if patches < 2:  # instance normalisation needs more than one pixel
        expected = f"blocks that leave at least 2 x 2 patches of {side} pixels (each takes 3 off, then halves)"
        raise BadValue("model_params.discriminator_params.num_blocks", expected, f"{discriminator.num_blocks}")
    matching = train.loss_weights.feature_matching
    if any(matching) and len(matching) < discriminator.num_blocks:
        expected = f"a weight for each of discriminator_params.num_blocks = {discriminator.num_blocks} blocks"
        raise BadValue("train_params.loss_weights.feature_matching", expected, f"{len(matching)} weights")


def _check_motion(config: Config) -> None:
    weights, model = config.train_params.loss_weights, config.model_params
    needs = {
        "keypoint_prior": (model.common_params.num_kp > 1, "0 where model_params.common_params.num_kp is 1"),
        "semantic_flow": (model.generator_params.dense_motion_params is not None, "0 without dense_motion_params"),
    }
    for term, (met, expected) in needs.items():
        if getattr(weights, term) and not met:
            raise BadValue(f"train_params.loss_weights.{term}", expected, f"{getattr(weights, term):g}")


def _check_without_encoders(config: Config) -> None:
    weights, without = config.train_params.loss_weights, "where model_params.encoder_params is missing"
    values = {f"train_params.loss_weights.{term}": getattr(weights, term) for term in _ENCODER_TERMS}
    values["train_params.head_probability"] = config.train_params.head_probability
    for path, value in values.items():
        if value > 0:
            raise BadValue(path, f"0 {without}", f"{value:g}")
    for name in ("reconstruction_params", "animate_params"):
        if getattr(config, name).motion == "embedding":
            raise BadValue(f"{name}.motion", f"keypoints or null {without}", "embedding")


def _check_encoders(config: Config) -> None:
    train, encoder = config.train_params, config.model_params.encoder_params
    if encoder.own_expression:
        _check_own_expression(config)
    if encoder.mirrored_identity and train.lr_encoders and train.rendered_share:
        # pictures would be made of another z_id than in use
        expected = "0 with model_params.encoder_params.mirrored_identity and lr_encoders above 0"
        raise BadValue("train_params.rendered_share", expected, f"{train.rendered_share:g}")


def _check_own_expression(config: Config) -> None:
    """It reads a face, its motions are of single pixels, and nothing but ``sid.expressions`` teaches it."""
    own, model = "model_params.encoder_params.own_expression", config.model_params
    if model.encoder_params.face_pixels is None:
        raise BadValue(own, "false where model_params.encoder_params.face_pixels is null", "true")
    if model.encoder_params.expression_dim < 2:  # some tell of the upper face, some of the lower
        raise BadValue("model_params.encoder_params.expression_dim", f"2 or more with {own}", "1")
    if not model.generator_params.skips:  # FOMM's grid is off by half a coarse pixel
        raise BadValue(own, "false where model_params.generator_params.skips is false", "true")
    for term in ("semantic_contrast", "expression_invariance"):
        weight = getattr(config.train_params.loss_weights, term)
        if weight:
            raise BadValue(f"train_params.loss_weights.{term}", f"0 with {own}", f"{weight:g}")


def _check_contrast(config: Config) -> None:
    """Terms that compare items or moments need several of them, and a face is placed where one is looked for."""
    weights, train = config.train_params.loss_weights, config.train_params
    for term in ("placement", "congealing", "face"):
        if getattr(weights, term) and config.model_params.encoder_params.face_pixels is None:
            expected = "0 where model_params.encoder_params.face_pixels is null"
            raise BadValue(f"train_params.loss_weights.{term}", expected, f"{getattr(weights, term):g}")
    if weights.congealing and not weights.placement:  # which keeps all windows from growing or wandering off
        expected = "above 0 where train_params.loss_weights.congealing is not 0"
        raise BadValue("train_params.loss_weights.placement", expected, "0")
    if weights.face and not (weights.pixel or sum(weights.perceptual)):
        expected = "0 where train_params.loss_weights.pixel and .perceptual are 0"
        raise BadValue("train_params.loss_weights.face", expected, f"{weights.face:g}")
    terms = ("identity_contrast", "expression_invariance")
    compared = [term for term in terms if getattr(weights, term)]
    if compared and train.batch_size < 2:
        raise BadValue("train_params.batch_size", f"2 or more where loss_weights.{compared[0]} is not 0", "1")
    if weights.semantic_contrast and config.dataset_params.frames_per_video < 4:
        expected = "4 or more where train_params.loss_weights.semantic_contrast is not 0"
        raise BadValue("dataset_params.frames_per_video", expected, str(config.dataset_params.frames_per_video))
