"""A model and run small enough for tests, yet with every part of SID in use."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.data import DataLoader

from modules.config.files import config_from_dict, config_to_dict, section_from_dict
from modules.config.sid import Config, ModelParams
from modules.data.sampling import EpochSampler
from modules.sid import objectives
from modules.sid.model import SID
from modules.training.run import build_accelerator
from modules.training.trainer import Trainer

TINY: dict[str, Any] = {
    "dataset_params": {
        "root_dir": "data",
        "frame_shape": [32, 32, 3],
        "id_sampling": True,
        "frames_per_video": 4,
        "elsewhere_frame": True,
        "num_workers": 2,
        "augmentation_params": {
            "flip_param": {"horizontal_flip": True, "time_flip": True},
            "jitter_param": {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1},
        },
    },
    "model_params": {
        "common_params": {"num_kp": 5},
        "kp_detector_params": {"block_expansion": 4, "max_features": 16, "scale_factor": 0.5, "num_blocks": 2},
        "generator_params": {
            "block_expansion": 8,
            "max_features": 16,
            "num_down_blocks": 1,
            "num_bottleneck_blocks": 2,
            "estimate_occlusion_map": True,
            "dense_motion_params": {
                "block_expansion": 4,
                "max_features": 16,
                "num_blocks": 2,
                "scale_factor": 0.5,
                "background": "shared",
            },
        },
        "discriminator_params": {"block_expansion": 8, "max_features": 16, "num_blocks": 2, "sn": True, "use_kp": True},
        "encoder_params": {
            "identity_dim": 8,
            "expression_dim": 8,
            "pose_dim": 4,
            "block_expansion": 8,
            "max_features": 16,
            "face_pixels": 32,
            "head_features": 16,
        },
    },
    "train_params": {
        "num_epochs": 2,
        "num_repeats": 8,
        "batch_size": 4,
        "scales": [1, 0.5],
        "checkpoint_freq": 1,
        "ema_decay": 0.9,
        "gradient_clip": 10,
        "head_probability": 0.5,
        "perceptual_network": {"weights": "small"},
        "loss_weights": {
            "generator_gan": 1,
            "feature_matching": [10, 10],
            "perceptual": 1,
            "pixel": 10,
            "face": 1,
            "keypoint_prior": 1,
            "semantic_flow": 1,
            "placement": 1,
            "congealing": 0.1,
            "identity_contrast": 0.1,
            "semantic_contrast": 0.1,
            "expression_invariance": 0.1,
            "cycle_identity": 0.1,
            "cycle_semantics": 0.1,
            "motion_value": 1,
            "motion_jacobian": 1,
        },
    },
}


OWN_EXPRESSION: dict[str, Any] = {
    "model_params.encoder_params.own_expression": True,
    "model_params.generator_params.skips": True,
    "train_params.loss_weights.semantic_contrast": 0,
    "train_params.loss_weights.expression_invariance": 0,
}


def tiny(**changes: Any) -> dict[str, Any]:
    """The configuration with dotted changes, such as ``{"train_params.seed": 3}``; None removes the key."""
    values = copy.deepcopy(TINY)
    for path, value in changes.items():
        *sections, key = path.split(".")
        section = values
        for name in sections:
            section = section.setdefault(name, {})
        if value is None:
            section.pop(key, None)
        else:
            section[key] = value
    return values


def write_tiny(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(tiny(**changes)))
    return path


def trainer_of(config: Config) -> Trainer:
    """A trainer of SID as ``train_sid`` builds it, over a loader that nothing is read from."""
    learning = objectives.build(config)
    train = config.train_params
    loader = DataLoader(range(64), batch_sampler=EpochSampler(64, train.batch_size))
    targets = learning.generator_step.targets
    beside = {"discriminator": learning.discriminator} | ({} if targets is None else {"targets": targets})
    accelerator = build_accelerator(train, cpu=True)
    return Trainer(learning.model, objectives.LAYOUT, learning.objectives, loader, train, accelerator, beside=beside)


def tiny_params(encoders: bool = True, **changes) -> ModelParams:
    values = config_to_dict(config_from_dict(tiny(**changes)).model_params)
    if not encoders:
        del values["encoder_params"]
    return section_from_dict(ModelParams, values)


def randomized(model: SID) -> SID:
    """Weights off their neutral initial values: FiLM, head and jacobians start at zero and would hide mistakes."""
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()
