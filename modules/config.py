"""The YAML's sections as dataclasses: every option with its default and its meaning, read strictly.

Sections and names are FOMM's, so its own files load unchanged; ``load_config`` turns a file into a :class:`Config` and
reports an unknown key, a wrong type or an impossible value in one line that names the key and the file.
"""

from __future__ import annotations

import difflib
import math
import operator
import os
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from modules.errors import UserError

section = partial(dataclass, frozen=True, kw_only=True)
T = TypeVar("T")
VideoFormat = Literal[".mp4", ".mov", ".mkv", ".avi", ".webm", ".gif"]


def option(default: Any = MISSING, **limits: Any) -> Any:
    """A field with limits: those of ``_BOUNDS`` for each number in it; ``order`` between neighbours of a list;
    ``filled``: no empty list; ``repeat``: a list of that length, for which a single number may stand."""
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=limits)
    return field(default=default, metadata=limits)


# ------------------------------------------------------------------------------------------------------ dataset_params


@section
class RootParams:
    path: str                                                # folder of one data set
    weight: float = option(1.0, above=0)                     # its share of the items, relative to the other roots


@section
class FlipParams:
    horizontal_flip: bool = False                            # mirror all frames of an item, or none
    time_flip: bool = False                                  # reverse the order of an item's frames


@section
class JitterParams:
    brightness: float = option(0.0, low=0)                   # factor drawn from [1 - value, 1 + value]
    contrast: float = option(0.0, low=0)                     # likewise
    saturation: float = option(0.0, low=0)                   # likewise
    hue: float = option(0.0, low=0, high=0.5)                # shift drawn from [-value, value]; 0.5 is all hues


@section
class RotationParams:
    degrees: float | tuple[float, float] = option(0.0, order=operator.le)   # one number d means [-d, d]


@section
class ResizeParams:
    ratio: tuple[float, float] = option((3 / 4, 4 / 3), above=0, order=operator.le)   # zoom drawn from this range


@section
class CropParams:
    size: tuple[int, int] = option(low=1, repeat=2)          # height and width of the random crop, pixels


@section
class AugmentationParams:
    """Random changes shared by the frames of an item; null = not applied."""

    flip_param: FlipParams | None = None                     # mirroring in space and time
    jitter_param: JitterParams | None = None                 # colours
    rotation_param: RotationParams | None = None             # rotation in the image plane
    resize_param: ResizeParams | None = None                 # zoom, before the crop
    crop_param: CropParams | None = None                     # crop, padded where the frame is smaller


@section
class DatasetParams:
    root_dir: str | list[RootParams] = option(filled=True)   # folder(s) of videos or stills, or their train/ and test/
    frame_shape: tuple[int, int, Literal[3]] = option((256, 256, 3), low=1)   # height, width, channels
    id_sampling: bool = False                                # an epoch draws one clip per name before `#`
    pairs_list: str | None = None                            # csv with columns source,driving for --mode animate
    augmentation_params: AugmentationParams = AugmentationParams()
    frames_per_video: int = option(2, low=2)                 # frames an item holds; FOMM uses 2
    cache_dir: str | None = None                             # keeps decoded frames here as memory maps
    num_workers: int = option(4, low=0)                      # loader processes per device; 0 = in the main process
    random_seed: int = option(0, low=0)                      # of the train/test split and the pairs

    @property
    def roots(self) -> tuple[RootParams, ...]:
        """The data sets to mix; a plain path is one root of weight 1."""
        return (RootParams(path=self.root_dir),) if isinstance(self.root_dir, str) else tuple(self.root_dir)


# -------------------------------------------------------------------------------------------------------- model_params


@section
class CommonParams:
    num_kp: int = option(10, low=1)                          # key points
    num_channels: Literal[3] = 3                             # of an image
    estimate_jacobian: bool = True                           # a 2x2 local affine map per key point


@section
class KPDetectorParams:
    temperature: float = option(0.1, above=0)                # of the heat maps' softmax
    block_expansion: int = option(32, low=1)                 # channels of the hourglass's first block; they double
    max_features: int = option(1024, low=1)                  # and stop here
    num_blocks: int = option(5, low=1, high=10)              # halvings in the hourglass
    scale_factor: float = option(0.25, reciprocal=True)      # of the frame the detector looks at
    single_jacobian_map: bool = False                        # all key points share one jacobian map
    pad: int = option(0, low=0)                              # of the last 7x7 convolutions


@section
class DenseMotionParams:
    block_expansion: int = option(64, low=1)                 # as in kp_detector_params
    max_features: int = option(1024, low=1)
    num_blocks: int = option(5, low=1, high=10)
    scale_factor: float = option(0.25, reciprocal=True)      # resolution of the motion field
    kp_variance: float = option(0.01, above=0)               # of the Gaussians drawn at key points


@section
class GeneratorParams:
    block_expansion: int = option(64, low=1)                 # channels of the first block; they double
    max_features: int = option(512, low=1)                   # and stop here
    num_down_blocks: int = option(2, low=0, high=10)         # halvings before the warp
    num_bottleneck_blocks: int = option(6, low=0)            # residual blocks after it
    estimate_occlusion_map: bool = False                     # mask what warping cannot show
    dense_motion_params: DenseMotionParams | None = None     # null = no motion: source and driver are not warped


@section
class DiscriminatorParams:
    scales: list[float] = option([1.0], reciprocal=True, filled=True)   # one discriminator per pyramid scale
    block_expansion: int = option(32, low=1)                 # channels of the first block; they double
    max_features: int = option(512, low=1)                   # and stop here
    num_blocks: int = option(4, low=1, high=10)              # convolutions, each giving a map to match
    sn: bool = False                                         # spectral normalisation
    use_kp: bool = False                                     # sees the key points' heat maps as well


@section
class EncoderParams:
    identity_dim: int = option(128, low=1)                   # numbers in the identity embedding (unit length)
    expression_dim: int = option(64, low=1)                  # numbers of the semantic embedding for expression
    pose_dim: int = option(16, low=1)                        # and for head pose
    block_expansion: int = option(32, low=8, multiple=8)     # channels of the first block; they double
    max_features: int = option(256, low=8, multiple=8)       # and stop here (eight groups are normalised)
    num_blocks: int = option(4, low=1, high=10)              # halvings
    scale_factor: float = option(1.0, reciprocal=True)       # of the frame the encoders look at
    head_features: int = option(256, low=1)                  # hidden width of the motion head


@section
class ModelParams:
    common_params: CommonParams = CommonParams()
    kp_detector_params: KPDetectorParams = KPDetectorParams()
    generator_params: GeneratorParams = GeneratorParams()
    discriminator_params: DiscriminatorParams = DiscriminatorParams()
    encoder_params: EncoderParams | None = None              # null = plain FOMM


# -------------------------------------------------------------------------------------------------------- train_params


@section
class TransformParams:
    """The random transform of the equivariance losses."""

    sigma_affine: float = option(0.05, low=0)                # deviation of the affine part's entries
    sigma_tps: float | None = option(0.005, low=0)           # deviation of the thin-plate part; null = affine alone
    points_tps: int | None = option(5, low=2)                # its control points per side; null = affine alone


@section
class LossWeights:
    """A weight of 0 leaves the term out, and what only it needs is not computed."""

    generator_gan: float = option(0.0, low=0)                # adversarial term; 0 trains no discriminator
    discriminator_gan: float = option(1.0, low=0)            # the discriminator's own loss
    feature_matching: list[float] = option([10.0] * 4, low=0)           # per discriminator block, with generator_gan
    perceptual: list[float] = option([10.0] * 5, low=0, repeat=5)       # per layer of the perceptual network
    equivariance_value: float = option(10.0, low=0)          # key points follow a known transform
    equivariance_jacobian: float = option(10.0, low=0)       # and so do their jacobians
    pixel: float = option(0.0, low=0)                        # mean absolute difference of pixels
    identity_contrast: float = option(0.0, low=0)            # same person together, others apart (InfoNCE)
    semantic_contrast: float = option(0.0, low=0)            # same frame together, other moments apart (InfoNCE)
    pose_equivariance: float = option(0.0, low=0)            # pose embedding follows known similarity transforms
    expression_invariance: float = option(0.0, low=0)        # expression embedding ignores them
    cycle_identity: float = option(0.0, low=0)               # a cross-person result keeps the source's identity
    cycle_semantics: float = option(0.0, low=0)              # and the driver's expression and pose
    independence: float = option(0.0, low=0)                 # covariance between identity and semantics
    motion_value: float = option(0.0, low=0)                 # motion head's key points agree with the detector's
    motion_jacobian: float = option(0.0, low=0)              # and so do their jacobians


@section
class PerceptualParams:
    weights: Literal["imagenet", "random", "small"] = "imagenet"        # VGG19 so initialised, or a small own network
    path: str | None = None                                  # file of the weights; null = torchvision's download


@section
class TrainParams:
    num_epochs: int = option(100, low=1)
    num_repeats: int = option(1, low=1)                      # times an epoch goes through the data set
    epoch_milestones: list[int] = option([], low=1, order=operator.lt)  # epochs at which learning rates drop tenfold
    lr_generator: float = option(2e-4, low=0)                # Adam's learning rates; 0 leaves weights as they are
    lr_discriminator: float = option(2e-4, low=0)
    lr_kp_detector: float = option(2e-4, low=0)
    lr_encoders: float = option(2e-4, low=0)                 # identity and semantic encoder, motion head
    batch_size: int = option(1, low=1)                       # items a step, over all processes together
    scales: list[float] = option([1.0, 0.5, 0.25, 0.125], reciprocal=True, filled=True)   # of the images compared
    checkpoint_freq: int = option(50, low=1)                 # epochs between numbered checkpoints
    checkpoint_minutes: float = option(30.0, above=0)        # minutes between the checkpoints to resume from
    transform_params: TransformParams = TransformParams()
    loss_weights: LossWeights = LossWeights()
    seed: int = option(0, low=0)                             # of initialisation, sampling and augmentation
    precision: Literal["fp32", "bf16"] = "fp32"              # of the networks' arithmetic; geometry stays fp32
    gradient_clip: float | None = option(None, above=0)      # largest gradient norm; null = not clipped
    ema_decay: float | None = option(None, low=0, below=1)   # of the weights' moving average; null = none kept
    visualize_every: int = option(1, low=1)                  # epochs between pictures in train-vis
    temperature: float = option(0.1, above=0)                # of the contrastive losses
    head_probability: float = option(0.0, low=0, high=1)     # share of items rendered with the motion head's key points
    perceptual_network: PerceptualParams = PerceptualParams()


# ------------------------------------------------------------------------------------------------- the running of modes


@section
class ReconstructionParams:
    num_videos: int = option(1000, low=1)                    # test videos at most
    format: VideoFormat = ".mp4"                             # of the result's file
    motion: Literal["embedding", "keypoints"] | None = None  # null = embedding with encoders, else keypoints


@section
class NormalizationParams:
    adapt_movement_scale: bool = False                       # scale movement by the ratio of face sizes
    use_relative_movement: bool = False                      # move from the driver's first frame, not to its place
    use_relative_jacobian: bool = False                      # likewise for jacobians


@section
class AnimateParams:
    num_pairs: int = option(50, low=1)                       # source and driver pairs at most
    format: VideoFormat = ".mp4"                             # of the result's file
    motion: Literal["embedding", "keypoints"] | None = None  # null = embedding with encoders, else keypoints
    normalization_params: NormalizationParams = NormalizationParams()


@section
class VisualizerParams:
    kp_size: int = option(5, low=1)                          # radius of a key point's dot, pixels
    draw_border: bool = True                                 # a line around every picture
    colormap: str = "gist_rainbow"                           # matplotlib's name of the key points' colours


@section
class Config:
    dataset_params: DatasetParams
    model_params: ModelParams
    train_params: TrainParams
    reconstruction_params: ReconstructionParams = ReconstructionParams()
    animate_params: AnimateParams = AnimateParams()
    visualizer_params: VisualizerParams = VisualizerParams()


# -------------------------------------------------------------------------------------------------- reading and writing


def load_config(path: str | os.PathLike) -> Config:
    """Read a YAML file.  Raises :class:`UserError`, one line, for a file that is missing, not YAML or not valid."""
    try:
        values = yaml.load(Path(path).read_bytes(), Loader=_Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot read the configuration: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{path}: not valid YAML at line {line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:      # ValueError: a date or number YAML itself cannot build
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        raise UserError(f"{path}: the file is empty; expected the sections {', '.join(_hints(Config))}")
    return config_from_dict(values, where=str(path))


def config_from_dict(values: dict, where: str = "configuration") -> Config:
    """A checked configuration from plain values; ``where`` is what an error names as the place (the file)."""
    config = section_from_dict(Config, values, where)
    try:
        _check_together(config)
    except _BadValue as error:
        raise UserError(f"{where}: {error}") from None
    return config


def section_from_dict(kind: type[T], values: dict, where: str = "configuration") -> T:
    """One section (``ModelParams``, ...) from plain values, every value checked on its own."""
    try:
        return _section(kind, values, "")
    except _BadValue as error:
        raise UserError(f"{where}: {error}") from None


def config_to_dict(config: Any) -> Any:
    """Plain YAML/JSON values of a configuration or a section; ``config_from_dict`` is the inverse."""
    if is_dataclass(config):
        return {f.name: config_to_dict(getattr(config, f.name)) for f in fields(config)}
    if isinstance(config, list | tuple):
        return [config_to_dict(value) for value in config]
    if isinstance(config, float) and config.is_integer():    # 1, not 1.0: FOMM's own code names modules by the scale
        return int(config)
    return config


def save_config(config: Config, path: str | os.PathLike) -> None:
    """Write the configuration with every default spelled out; the file appears whole or not at all."""
    text = yaml.dump(config_to_dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot write the configuration: {error.strerror}") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes lists on one line."""


_Dumper.add_representer(list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, True))


# ------------------------------------------------------------------------------- from plain values to typed ones


class _BadValue(Exception):
    """A value that cannot be; the caller puts the file in front."""

    def __init__(self, path: str, expected: str, found: str):
        message = f"{path or 'top level'}: expected {expected}, found {found}"
        super().__init__(" ".join(message.split()))          # one line, even where a key holds a line break


def _fail(path: str, expected: str, value: Any) -> NoReturn:
    if value is None or isinstance(value, bool):
        found = {True: "true", False: "false", None: "null"}[value]
    else:
        found = {dict: "the mapping ", list: "the list "}.get(type(value), "") + repr(value)
    raise _BadValue(path, expected, f"{found[:77]}..." if len(found) > 80 else found)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _section(kind: type[T], values: Any, path: str) -> T:
    if not isinstance(values, dict):
        _fail(path, f"a mapping with the keys {', '.join(_hints(kind))}", values)
    prefix = f"{path}." if path else ""
    for key in values:
        if key not in _hints(kind):
            raise _BadValue(prefix + str(key), _nearest(str(key), kind, prefix), "an unknown key")
    arguments = {}
    for f in fields(kind):
        hint, required = _hints(kind)[f.name], f.default is MISSING and f.default_factory is MISSING
        missing = f.name not in values or (values[f.name] is None and is_dataclass(hint))    # a bare `section:`
        if missing and required:
            raise _BadValue(prefix + f.name, _describe(hint, f.metadata), "nothing: it is missing")
        if not missing:
            arguments[f.name] = _convert(values[f.name], hint, f.metadata, prefix + f.name)
    return kind(**arguments)


def _convert(value: Any, hint: Any, limits: Any, path: str, expected: str | None = None) -> Any:
    """The value as the type ``hint`` asks for, or :class:`_BadValue`."""
    expected = expected or _describe(hint, limits)
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and type(None) in parts:
            return None
        choices = [part for part in parts if part is not type(None)]
        fitting = [part for part in choices if (get_origin(part) in (list, tuple)) == isinstance(value, list)]
        return _convert(value, (fitting or choices)[0], limits, path, expected)
    if is_dataclass(hint):
        return _section(hint, value, path)
    if origin in (list, tuple):
        return _sequence(value, origin, parts, limits, path, expected)
    if hint is bool or hint is str:
        return value if isinstance(value, hint) and value != "" else _fail(path, expected, value)
    if origin is Literal:
        known = value if isinstance(value, str) and value in parts else _number(value)
        return next((part for part in parts if part == known), None) or _fail(path, expected, value)
    number = _number(value)
    if number is None or (hint is int and number != int(number)) or not _within(number, limits):
        _fail(path, expected, value)
    return hint(number)


def _sequence(value: Any, kind: type, parts: tuple, limits: Any, path: str, expected: str) -> Any:
    length = limits.get("repeat") or (len(parts) if kind is tuple else None)
    if "repeat" in limits and _number(value) is not None:
        value = [value] * length
    if not isinstance(value, list | tuple) or (length and len(value) != length) or (limits.get("filled") and not value):
        _fail(path, expected, value)
    hints = parts if kind is tuple else parts * len(value)
    items = [_convert(item, hints[i], limits, f"{path}[{i}]") for i, item in enumerate(value)]
    if "order" in limits and not all(map(limits["order"], items, items[1:])):
        _fail(path, expected, value)
    return kind(items)


def _number(value: Any) -> int | float | None:
    """The finite number a value spells, or None.  YAML 1.1 reads ``1e-4`` as text; a bool is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    return value if isinstance(value, int) else number


_BOUNDS = {
    "low": (operator.ge, ">= {}"),
    "above": (operator.gt, "> {}"),
    "high": (operator.le, "<= {}"),
    "below": (operator.lt, "< {}"),
    "multiple": (lambda number, step: number % step == 0, "a multiple of {}"),
    "reciprocal": (lambda number, _: 0 < number <= 1 and 1 / number - int(1 / number) < 1e-6, "1/n for a whole n"),
}


def _within(number: float, limits: Any) -> bool:
    return all(holds(number, limits[name]) for name, (holds, _) in _BOUNDS.items() if name in limits)


def _describe(hint: Any, limits: Any) -> str:
    """What a field takes, in words, for the error line."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join("null" if part is type(None) else _describe(part, limits) for part in parts)
    if origin is Literal:
        return " or ".join(str(part) for part in parts)
    order = " in increasing order" if "order" in limits else ""
    if origin is tuple:
        return f"a list of {len(parts)}{order}: [{', '.join(_describe(part, limits) for part in parts)}]"
    if origin is list:
        length = f" of {limits['repeat']}" if "repeat" in limits else ""
        return f"a list{length}{order}, each {_describe(parts[0], limits)}"
    if is_dataclass(hint):
        return f"a mapping with the keys {', '.join(_hints(hint))}"
    bounds = " and ".join(words.format(limits[name]) for name, (_, words) in _BOUNDS.items() if name in limits)
    words = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}[hint]
    return f"{words} {bounds}" if bounds and hint in (int, float) else words


def _nearest(key: str, kind: type, prefix: str) -> str:
    """Advice on an unknown key: the nearest of its section, else where a key of that name belongs, else the choice."""
    near, far = (difflib.get_close_matches(key, _hints(kind), n=1, cutoff=cutoff) for cutoff in (0.75, 0.5))
    elsewhere = [path for path in _paths(Config) if path.rpartition(".")[2] == key]
    for path in (*(prefix + name for name in near), *elsewhere, *(prefix + name for name in far)):
        return f"a known key such as {path}"
    return f"one of {', '.join(_hints(kind))}"


def _paths(kind: type, prefix: str = "") -> Iterator[str]:
    for name, hint in _hints(kind).items():
        yield prefix + name
        for part in (hint, *get_args(hint)):
            if is_dataclass(part):
                yield from _paths(part, f"{prefix}{name}.")


# -------------------------------------------------------------------------------- values that must fit one another


_ENCODER_TERMS = (
    "identity_contrast", "semantic_contrast", "pose_equivariance", "expression_invariance", "cycle_identity",
    "cycle_semantics", "independence", "motion_value", "motion_jacobian",
)


def _check_together(config: Config) -> None:
    """Raise :class:`_BadValue` where options contradict each other or the networks cannot be built from them."""
    _check_sizes(config)
    if config.train_params.loss_weights.generator_gan > 0:
        _check_adversarial(config)
    if config.model_params.encoder_params is None:
        _check_without_encoders(config)


def _check_sizes(config: Config) -> None:
    data, train = config.dataset_params, config.train_params
    _check_frame(config.model_params, "dataset_params.frame_shape", data.frame_shape[:2])
    crop = data.augmentation_params.crop_param
    if crop is not None:                                                      # what training then sees
        _check_frame(config.model_params, "dataset_params.augmentation_params.crop_param.size", crop.size)
    scale, side = min(train.scales), _smallest_side(data)
    if any(train.loss_weights.perceptual) and side * scale < 16:              # its five stages halve four times
        expected = "scale * frame size >= 16 pixels, which the perceptual network needs"
        raise _BadValue("train_params.scales", expected, f"{scale:g} * {side} = {side * scale:g}")


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
    step = 2**generator.num_down_blocks
    if any(side % step for side in shape):
        expected = f"height and width divisible by 2**model_params.generator_params.num_down_blocks = {step}"
        raise _BadValue(path, expected, f"{shape[0]} x {shape[1]}")
    heat_map = min(shape) * detector.scale_factor + 2 * detector.pad - 6      # a 7x7 convolution takes 6 off
    if heat_map < 2:                                                          # a grid of one point has no extent
        expected = f"heat maps of at least 2 pixels ({path} * scale_factor + 2 * pad - 6; pad 3 keeps the size)"
        raise _BadValue("model_params.kp_detector_params.pad", expected, f"{heat_map:g}")
    encoder = model.encoder_params
    if encoder is not None and min(shape) * encoder.scale_factor < 2**encoder.num_blocks:
        expected = f"{path} * scale_factor >= 2**num_blocks = {2**encoder.num_blocks}"
        raise _BadValue("model_params.encoder_params.num_blocks", expected, f"{min(shape) * encoder.scale_factor:g}")


def _check_hourglass(path: str, network: Any, frame: str, shape: tuple[int, ...]) -> None:
    """Its skips join maps that were halved and doubled again: every halving must come out even."""
    step = 2**network.num_blocks
    for side in shape:
        if side * network.scale_factor % step:
            expected = f"{frame} * scale_factor divisible by 2**num_blocks = {step}"
            found = f"{side} * {network.scale_factor:g} = {side * network.scale_factor:g}"
            raise _BadValue(f"{path}.num_blocks", expected, found)


def _check_adversarial(config: Config) -> None:
    discriminator, train = config.model_params.discriminator_params, config.train_params
    for scale in discriminator.scales:
        if scale not in train.scales:
            expected = f"scales among train_params.scales = {config_to_dict(train.scales)}"
            raise _BadValue("model_params.discriminator_params.scales", expected, f"{scale:g}")
    side = int(_smallest_side(config.dataset_params) * min(discriminator.scales))
    patches = side
    for block in range(discriminator.num_blocks):
        patches = (patches - 3) // (1 if block == discriminator.num_blocks - 1 else 2)    # convolution, pooling
    if patches < 2:                                          # instance normalisation needs more than one pixel
        expected = f"blocks that leave at least 2 x 2 patches of {side} pixels (each takes 3 off, then halves)"
        raise _BadValue("model_params.discriminator_params.num_blocks", expected, f"{discriminator.num_blocks}")
    matching = train.loss_weights.feature_matching
    if any(matching) and len(matching) < discriminator.num_blocks:
        expected = f"a weight for each of discriminator_params.num_blocks = {discriminator.num_blocks} blocks"
        raise _BadValue("train_params.loss_weights.feature_matching", expected, f"{len(matching)} weights")


def _check_without_encoders(config: Config) -> None:
    weights, without = config.train_params.loss_weights, "where model_params.encoder_params is missing"
    values = {f"train_params.loss_weights.{term}": getattr(weights, term) for term in _ENCODER_TERMS}
    values["train_params.head_probability"] = config.train_params.head_probability
    for path, value in values.items():
        if value > 0:
            raise _BadValue(path, f"0 {without}", f"{value:g}")
    for name in ("reconstruction_params", "animate_params"):
        if getattr(config, name).motion == "embedding":
            raise _BadValue(f"{name}.motion", f"keypoints or null {without}", "embedding")
