"""The sections of a small base's configuration."""

from __future__ import annotations

from .mef import SIDParams
from .schema import option, section
from .training import LoopParams


@section
class PictureParams:
    root_dir: str  # folder with metadata.jsonl, or its train/ with one
    resolution: int = option(128, low=32, multiple=8)  # height and width of the pictures the base makes, pixels
    cache_dir: str | None = None  # keeps the denoiser's latents; null = computed at each start
    num_workers: int = option(4, low=0)  # loader processes per device; 0 = in the main process


@section
class AutoencoderParams:
    channels: list[int] = option([16, 32, 64], low=8, multiple=8, filled=True)  # finest first; each level halves
    layers: int = option(1, low=1)  # residual blocks of each level
    latent_channels: int = option(4, low=1)


@section
class DenoiserParams:
    channels: list[int] = option([32, 96, 160], low=32, multiple=32, filled=True)  # finest first; each level halves
    layers: int = option(1, low=1)  # residual blocks of each level
    head_width: int = option(32, low=8)  # channels of an attention head
    text_width: int = option(128, low=8, multiple=4)  # of the text encoder, which has four heads
    text_layers: int = option(3, low=1)


@section
class SmallBaseModelParams:
    autoencoder_params: AutoencoderParams = AutoencoderParams()
    denoiser_params: DenoiserParams = DenoiserParams()


@section
class AutoencoderTrainParams(LoopParams):
    lr: float = option(1e-3, low=0)  # AdamW's learning rate
    perceptual: float = option(1.0, low=0)  # distance in features of a small untrained network
    divergence: float = option(1e-8, low=0)  # of the posterior from a normal distribution
    frozen_encoder: bool = False  # the decoder alone: latents stay as a denoiser knows them


@section
class FaceFeatureParams:
    """Losses on the decoded estimate of x0, as a frozen SID reads it beside the picture itself."""

    sid_params: SIDParams
    expression: float = option(0.1, low=0)  # weight of the errors of z_exp and z_pose, in units of their variance
    identity: float = option(0.1, low=0)  # weight of 1 - cosine of z_id
    max_timestep: int = option(700, low=1)  # noisier estimates are not looked at
    share: float = option(0.25, above=0, high=1)  # of a batch at most: they cost more than the denoiser


@section
class DenoiserTrainParams(LoopParams):
    lr: float = option(1e-3, low=0)  # AdamW's learning rate
    weight_decay: float = option(0.01, low=0)
    min_snr_gamma: float = option(5.0, above=0)  # min-SNR weighting (Hang et al., 2023)
    face_weight: float = option(1.0, above=0)  # loss inside the face masks, relative to outside
    text_dropout: float = option(0.1, low=0, high=1)  # share of items without caption, which guidance needs
    face_feature_params: FaceFeatureParams | None = None  # null = the denoiser's squared error alone


@section
class SmallBaseConfig:
    dataset_params: PictureParams
    model_params: SmallBaseModelParams = SmallBaseModelParams()
    autoencoder_train_params: AutoencoderTrainParams = AutoencoderTrainParams()
    denoiser_train_params: DenoiserTrainParams = DenoiserTrainParams()
