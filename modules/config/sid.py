"""The sections of a SID configuration: every option with its default and its meaning.

Sections and names are FOMM's, so its own files load unchanged.
"""

from __future__ import annotations

import math
from typing import Literal

from .data import DatasetParams
from .schema import option, section
from .training import LoopParams

VideoFormat = Literal[".mp4", ".m4v", ".mov", ".mkv", ".webm", ".gif"]  # as media.writer writes


# -------------------------------------------------------------------------------------------------------- model_params


@section
class CommonParams:
    num_kp: int = option(10, low=1)  # key points
    num_channels: Literal[3] = 3  # of an image; FOMM's files name it
    estimate_jacobian: bool = True  # a 2x2 local affine map per key point


@section
class KPDetectorParams:
    temperature: float = option(0.1, above=0)  # of the heat maps' softmax
    block_expansion: int = option(32, low=1)  # channels of the hourglass's first block; they double
    max_features: int = option(1024, low=1)  # and stop here
    num_blocks: int = option(5, low=1, high=10)  # halvings in the hourglass
    scale_factor: float = option(0.25, reciprocal=True)  # of the frame the detector looks at
    single_jacobian_map: bool = False  # all key points share one jacobian map
    pad: int = option(0, low=0)  # of the last 7x7 convolutions


@section
class DenseMotionParams:
    block_expansion: int = option(64, low=1)  # as in kp_detector_params
    max_features: int = option(1024, low=1)
    num_blocks: int = option(5, low=1, high=10)
    scale_factor: float = option(0.25, reciprocal=True)  # resolution of the motion field
    kp_variance: float = option(0.01, above=0)  # of the Gaussians drawn at key points
    background: Literal["still", "shared"] = "still"  # its motion: none (FOMM), or what all key points share


@section
class GeneratorParams:
    block_expansion: int = option(64, low=1)  # channels of the first block; they double
    max_features: int = option(512, low=1)  # and stop here
    num_down_blocks: int = option(2, low=0, high=10)  # halvings before the warp
    num_bottleneck_blocks: int = option(6, low=0)  # residual blocks after it
    estimate_occlusion_map: bool = False  # mask what warping cannot show
    skips: bool = False  # what is not occluded is the warped source, as sharp
    dense_motion_params: DenseMotionParams | None = None  # null = no motion: source and driver are not warped


@section
class DiscriminatorParams:
    scales: list[float] = option([1.0], reciprocal=True, filled=True)  # one discriminator per pyramid scale
    block_expansion: int = option(32, low=1)  # channels of the first block; they double
    max_features: int = option(512, low=1)  # and stop here
    num_blocks: int = option(4, low=1, high=10)  # convolutions, each giving a map to match
    sn: bool = False  # spectral normalisation
    use_kp: bool = False  # sees the key points' heat maps as well


@section
class EncoderParams:
    identity_dim: int = option(128, low=1)  # numbers in the identity embedding (unit length)
    expression_dim: int = option(64, low=1)  # numbers of the semantic embedding for expression
    pose_dim: int = option(16, low=1)  # and for head pose
    block_expansion: int = option(32, low=8, multiple=8)  # channels of the first block; they double
    max_features: int = option(256, low=8, multiple=8)  # and stop here (eight groups are normalised)
    num_blocks: int = option(4, low=1, high=10)  # halvings
    scale_factor: float = option(1.0, reciprocal=True)  # of the frame the encoders look at
    face_pixels: int | None = option(None, low=32, multiple=8)  # side of the face, cut out of the frame, they look at
    # instead; null = they look at the whole frame
    own_expression: bool = False  # z_exp is read off features of its own (with face_pixels)
    mirrored_identity: bool = False  # z_id is the mean of the found face's and its mirror
    # image's, where the encoder does not learn
    head_features: int = option(256, low=1)  # hidden width of the motion head


@section
class ModelParams:
    common_params: CommonParams = CommonParams()
    kp_detector_params: KPDetectorParams = KPDetectorParams()
    generator_params: GeneratorParams = GeneratorParams()
    discriminator_params: DiscriminatorParams = DiscriminatorParams()
    encoder_params: EncoderParams | None = None  # null = plain FOMM


# -------------------------------------------------------------------------------------------------------- train_params


@section
class TransformParams:
    """The random transform of the equivariance losses."""

    sigma_affine: float = option(0.05, low=0)  # deviation of the affine part's entries
    sigma_tps: float | None = option(0.005, low=0)  # deviation of the thin-plate part; null = affine alone
    points_tps: int | None = option(5, low=2)  # its control points per side; null = affine alone


@section
class LossWeights:
    """A weight of 0 leaves the term out, and what only it needs is not computed."""

    generator_gan: float = option(0.0, low=0)  # adversarial term; 0 trains no discriminator
    discriminator_gan: float = option(1.0, low=0)  # the discriminator's own loss
    feature_matching: list[float] = option([10.0] * 4, low=0)  # per discriminator block, with generator_gan
    perceptual: list[float] = option([10.0] * 5, low=0, repeat=5)  # per layer of the perceptual network
    equivariance_value: float = option(10.0, low=0)  # key points follow a known transform
    equivariance_jacobian: float = option(10.0, low=0)  # and so do their jacobians
    pixel: float = option(0.0, low=0)  # mean absolute difference of pixels
    face: float = option(0.0, low=0)  # perceptual and pixel once more, of faces cut out upright
    keypoint_prior: float = option(0.0, low=0)  # key points keep apart
    semantic_flow: float = option(0.0, low=0)  # size of the flow that embeddings, not key points, give
    placement: float = option(0.0, low=0)  # faces are found where a known transform moves them
    congealing: float = option(0.0, low=0)  # the faces found look alike
    identity_contrast: float = option(0.0, low=0)  # same person together, others apart (InfoNCE)
    semantic_contrast: float = option(0.0, low=0)  # same frame together, other moments apart (InfoNCE)
    expression_invariance: float = option(0.0, low=0)  # expression embedding ignores known transforms
    cycle_identity: float = option(0.0, low=0)  # a cross-person result keeps the source's identity
    cycle_semantics: float = option(0.0, low=0)  # and the driver's z_exp; without own_expression all z_sem
    motion_value: float = option(0.0, low=0)  # motion head's key points agree with the detector's
    motion_jacobian: float = option(0.0, low=0)  # and so do their jacobians

    # earlier files name these
    dropped = dict.fromkeys(("independence", "pose_equivariance"), "measured to matter nothing")


@section
class PerceptualParams:
    weights: Literal["imagenet", "random", "small"] = "imagenet"  # VGG19 so initialised, or a small own network
    path: str | None = None  # file of the weights; null = torchvision's download


@section
class TrainParams(LoopParams):
    lr_generator: float = option(2e-4, low=0)  # Adam's learning rates; 0 freezes a network
    lr_discriminator: float = option(2e-4, low=0)
    lr_kp_detector: float = option(2e-4, low=0)
    lr_encoders: float = option(2e-4, low=0)  # identity and semantic encoder, motion head
    lr_motion_head: float | None = option(None, low=0)  # of the motion head; null: lr_encoders
    scales: list[float] = option([1.0, 0.5, 0.25, 0.125], reciprocal=True, filled=True)  # of the images compared
    transform_params: TransformParams = TransformParams()
    loss_weights: LossWeights = LossWeights()
    temperature: float = option(0.1, above=0)  # of the contrastive losses
    frozen_norms: bool = False  # batch norms use, and keep, their running statistics
    head_probability: float = option(0.0, low=0, high=1)  # share of items rendered with the motion head's key points
    rendered_share: float = option(1.0, low=0, high=1)  # of a batch's items; 0 = nothing but the encoders learns
    perceptual_network: PerceptualParams = PerceptualParams()

    def learning_rate(self, network: str) -> float:
        """Of a part that :func:`.sid.weights.learners` names."""
        return self.lr_encoders if network == "image_encoders" else getattr(self, f"lr_{network}")

    def rendered(self, items: int) -> int:
        """How many of ``items`` are rendered: one at least, unless none are wanted."""
        return math.ceil(self.rendered_share * items)


# ------------------------------------------------------------------------------------------------- the running of modes


@section
class ReconstructionParams:
    num_videos: int = option(1000, low=1)  # test videos at most
    format: VideoFormat = ".mp4"  # of the result's file
    motion: Literal["embedding", "keypoints"] | None = None  # null = embedding with encoders, else keypoints


@section
class NormalizationParams:
    adapt_movement_scale: bool = False  # scale movement by the ratio of face sizes
    use_relative_movement: bool = False  # move from the driver's first frame, not to its place
    use_relative_jacobian: bool = False  # likewise for jacobians


@section
class AnimateParams:
    num_pairs: int = option(50, low=1)  # source and driver pairs at most
    format: VideoFormat = ".mp4"  # of the result's file
    motion: Literal["embedding", "keypoints"] | None = None  # null = embedding with encoders, else keypoints
    normalization_params: NormalizationParams = NormalizationParams()


@section
class EvaluateParams:
    """--mode evaluate: the synthetic face world, whose truth is exact."""

    meter: str | None = None  # measuring network; null = the bundled face-meter.pth
    ceiling: str | None = None  # the model's own encoders trained on it, to stand beside
    people: int = option(200, low=16)  # never seen in training, for retrieval and probes
    frames: int = option(10, low=2)  # pictures of each
    probe_people: int = option(1000, low=16)  # further ones, who teach the probes
    pairs: int = option(100, low=1)  # of source and driver, for cross-reenactment
    clip_frames: int = option(10, low=1)  # frames of a driving clip


@section
class VisualizerParams:
    kp_size: int = option(5, low=1)  # radius of a key point's dot, pixels
    draw_border: bool = True  # a line around every picture
    colormap: str = "gist_rainbow"  # matplotlib's name of the key points' colours


@section
class FramingParams:
    """Which part of a picture a model's frames are: a square around the face, by its landmarks."""

    size: float = option(2.2, low=1, high=10)  # its side, in faces from brows to chin
    above: float = option(0.0, low=-0.5, high=0.5)  # its middle above the face's, in its sides
    upright: bool = True  # in a source picture it is turned as the head leans


@section
class Config:
    dataset_params: DatasetParams
    model_params: ModelParams
    train_params: TrainParams
    reconstruction_params: ReconstructionParams = ReconstructionParams()
    animate_params: AnimateParams = AnimateParams()
    evaluate_params: EvaluateParams = EvaluateParams()
    visualizer_params: VisualizerParams = VisualizerParams()
    framing_params: FramingParams | None = None  # null = pictures as they are, or cut out in FOMM's way with --crop
