"""The sections of a MEF configuration, read as strictly as SID's (:mod:`.config.sid`)."""

from __future__ import annotations

import re
from typing import Literal

from .schema import BadValue, option, section
from .sid import PerceptualParams
from .training import LoopParams


@section
class PortraitParams:
    root_dir: str  # folder with metadata.jsonl, or its train/ with one; or shards, https://host/a-{00000..00099}.tar
    resolution: int = option(512, low=32, multiple=8)  # height and width of the pictures the base makes, pixels
    crop_faces: bool = False  # cut the face out, as SID's framing_params say, before SID looks
    cache_dir: str | None = None  # keeps what frozen networks give; a URL is only read; null = computed at each step
    num_workers: int = option(4, low=0)  # loader processes per device; 0 = in the main process


@section
class BaseParams:
    path: str  # hub id, folder, or one .safetensors file
    config: str | None = None  # of a single file: hub id or folder of the same layout
    variant: str | None = None  # weights variant of the hub, such as fp16


@section
class SIDParams:
    config: str  # YAML file of the frozen SID
    checkpoint: str  # its weights


@section
class CompoundParams:
    """What the identity embedding holds beside SID's; each part is of unit length before its weight."""

    clip: str | None = None  # folder or hub id of a CLIP vision model with projection
    clip_weight: float = option(1.0, above=0)  # length of its part
    face_recognition: str | None = None  # bundled; or .onnx file of a face-recognition network (ArcFace)
    face_recognition_weight: float = option(1.0, above=0)  # length of its part


INJECT = ["mid", "up"]  # where adapters act unless they are told
Fusion = Literal["plain", "positional"]


@section
class AdapterParams:
    tokens: int = option(4, low=1)  # tokens an embedding becomes
    hidden_ratio: int = option(2, low=1)  # hidden width of the projection, in embedding widths


@section
class ExemplarParams:
    """An expression adapter that reads the picture's face place by place (EmojiDiff's E-Adapter), not one vector."""

    encoder: str = "sid"  # sid: its own features; or folder or hub id of a CLIP vision model
    tokens: int = option(16, low=1)  # tokens a picture becomes
    hidden: int = option(256, low=64, multiple=64)  # width of the resampler


@section
class InpaintParams:
    """SFSR: the base in its inpainting form sees the picture around the face, of which it paints an oval anew."""

    # the base's UNet learns as well, with channels for the background that begin at zero where it lacks them; false: it
    # is frozen, and has them
    train_base: bool = False


@section
class MEFParams:
    base_params: BaseParams
    sid_params: SIDParams
    compound_params: CompoundParams = CompoundParams()
    # ip_adapter: cross-attention of their own in the base's layers; branch: a trainable copy of its encoder reads them
    adapter: Literal["ip_adapter", "branch"] = "ip_adapter"
    # of an ip_adapter, where it acts: all, mid, up, down, up_blocks.1, ... or a list
    inject: str | list[str] = option(INJECT, filled=True)
    expression_inject: str | list[str] | None = option(None, filled=True)  # of the expression alone; null = as inject
    fusion: Fusion = (
        "plain"  # of a branch: softmax over the tokens of both, or over positions as the authors' code does
    )
    identity_params: AdapterParams = AdapterParams()
    expression_params: AdapterParams = AdapterParams()
    exemplar_params: ExemplarParams | None = None  # of an ip_adapter, instead of expression_params
    inpaint_params: InpaintParams | None = None  # SFSR: a face is painted into a picture that is given


@section
class DropoutParams:
    """Shares of the items whose condition is left out, drawn independently; guidance needs some of each."""

    text: float = option(0.05, low=0, high=1)
    identity: float = option(0.05, low=0, high=1)
    expression: float = option(0.05, low=0, high=1)
    all: float = option(0.05, low=0, high=1)  # all three at once
    background: float = option(0.0, low=0, high=1)  # of inpaint_params: all is painted; 1 = no background is ever given


@section
class MEFLossWeights:
    """Losses on a picture that does not yet exist: the decoded estimate of x0."""

    identity: float = option(0.0, low=0)  # SID's identity of the x0 estimate agrees with the given
    expression: float = option(0.0, low=0)  # its expression and pose do, in units of their variance
    perceptual: float = option(0.0, low=0)  # VGG-19's features agree with those of the identity picture
    reference: float = option(0.0, low=0)  # mean squared error of pixels from the expression picture
    alignment: float = option(0.0, low=0)  # its identity is as it would be without the expression
    min_timestep: int = option(0, low=0)  # less noisy estimates than this are not looked at
    max_timestep: int = option(300, low=1)  # nor those from this on
    estimator: str = "one_step"  # of x0: one_step, midpoint (two passes through the UNet), or ddim-N (N passes)


@section
class MEFTrainParams(LoopParams):
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of the frozen networks; adapters stay fp32
    lr: float = option(1e-4, low=0)  # AdamW's learning rate
    weight_decay: float = option(0.01, low=0)
    gradient_accumulation: int = option(1, low=1)  # parts in which a step's batch is computed
    gradient_checkpointing: bool = False  # recompute activations: slower, less memory
    min_snr_gamma: float | None = option(5.0, above=0)  # min-SNR weighting (Hang et al., 2023); null = none
    noise_offset: float = option(0.0, low=0)  # deviation of a shift of each channel's noise
    face_weight: float = option(1.0, above=0)  # loss inside the face mask, relative to outside
    other_photo: float = option(1.0, low=0, high=1)  # share of identities read off another photo of the person
    dropout_params: DropoutParams = DropoutParams()
    loss_weights: MEFLossWeights = MEFLossWeights()
    perceptual_network: PerceptualParams = PerceptualParams()  # of loss_weights.perceptual


@section
class ValidationParams:
    """The grid of pictures in train-vis/; empty lists take items of the data set."""

    identities: list[str] = option([])  # pictures of people
    expressions: list[str] = option([])  # pictures of expressions
    prompts: list[str] = option([])
    steps: int = option(25, low=1)  # of DDIM
    guidance_scale: float = option(5.0, low=1)
    seed: int = option(0, low=0)


@section
class PortraitEvaluateParams:
    """run.py --mode evaluate: portraits of people of the synthetic face world, whose truth is exact."""

    meter: str | None = None  # measuring network; null = the bundled face-meter.pth
    people: int = option(100, low=2)  # never seen in training
    expressions: int = option(5, low=1)  # portraits of each
    close: bool = False  # faces as python -m modules.data.synthetic --close shows them
    steps: int = option(25, low=1)  # of the base's own scheduler
    guidance_scale: float = option(3.0, low=1)
    seed: int = option(0, low=0)  # of the first portrait's noise


@section
class MEFConfig:
    dataset_params: PortraitParams
    model_params: MEFParams
    train_params: MEFTrainParams = MEFTrainParams()
    validation_params: ValidationParams = ValidationParams()
    evaluate_params: PortraitEvaluateParams = PortraitEvaluateParams()


def evaluations(estimator: str) -> int:
    """Passes through the network that an estimate of x0 takes.  Raises :class:`BadValue` for an unknown estimator."""
    named = {"one_step": 1, "midpoint": 2}
    ddim = re.fullmatch(r"ddim-([1-9]\d*)", estimator)
    if estimator not in named and ddim is None:
        expected = "one_step, midpoint or ddim-N, such as ddim-4"
        raise BadValue("train_params.loss_weights.estimator", expected, repr(estimator))
    return int(ddim[1]) if ddim else named[estimator]


def check_mef_together(config: MEFConfig) -> None:
    """Raise :class:`BadValue` where options contradict each other."""
    weights = config.train_params.loss_weights
    evaluations(weights.estimator)
    if config.model_params.adapter == "ip_adapter" and config.model_params.fusion != "plain":
        raise BadValue("model_params.fusion", "plain where model_params.adapter is ip_adapter", "positional")
    if weights.min_timestep >= weights.max_timestep:
        expected = f"less than max_timestep, {weights.max_timestep}"
        raise BadValue("train_params.loss_weights.min_timestep", expected, f"{weights.min_timestep}")
    model = config.model_params
    if model.adapter == "branch" and model.inject != INJECT:
        raise BadValue("model_params.inject", "nothing with adapter: branch, which acts everywhere", f"{model.inject}")
    for name in ("exemplar_params", "expression_inject"):
        if model.adapter == "branch" and getattr(model, name) is not None:
            raise BadValue(f"model_params.{name}", "null with adapter: branch", "a value")
    if model.inpaint_params is None and config.train_params.dropout_params.background:
        raise BadValue("train_params.dropout_params.background", "0 without model_params.inpaint_params", "more")
    if model.inpaint_params is not None and (model.adapter != "ip_adapter" or model.exemplar_params is not None):
        expected = "null with a branch or exemplar_params: the pose of the picture cannot be put into these"
        raise BadValue("model_params.inpaint_params", expected, "a value")
    for term in ("identity", "expression", "alignment"):
        if config.dataset_params.crop_faces and getattr(weights, term):  # an estimate is compared as a whole
            expected = "0 where dataset_params.crop_faces is true (embeddings of cut-out faces)"
            raise BadValue(f"train_params.loss_weights.{term}", expected, f"{getattr(weights, term):g}")
