"""A tiny MEF workshop: bases, a SID, portraits, and the configuration of a training run on them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import tiny_base
import torch
import yaml
from tiny import randomized, tiny, write_tiny

from modules import media
from modules.config.files import config_from_dict
from modules.data.astronaut import moving_face
from modules.sid import weights
from modules.sid.model import SID
from modules.training.checkpoint import save_checkpoint

WIDTHS = (8, 12)  # of the tiny SID's identity and semantics
CAPTIONS = ["a red hat", "a blue hat", "a green wall"]


def write_sid(folder: Path, **changes: Any) -> Path:
    write_tiny(folder / "sid.yaml", **changes)
    torch.manual_seed(0)
    model = randomized(SID(config_from_dict(tiny()).model_params))
    save_checkpoint(weights.state(model), folder / "sid.pth.tar")
    return folder


def write_portraits(folder: Path, people: int = 2, each: int = 4) -> Path:
    """Pictures of several people, with masks of some."""
    folder.mkdir()
    lines = []
    for person in range(people):
        for i, image in enumerate(moving_face(person, each, 48)):
            name = f"p{person}_{i}.png"
            media.write_image(folder / name, image)
            line = {"file_name": name, "text": CAPTIONS[(person + i) % 3], "identity": f"p{person}"}
            if i == 0:
                mask = np.zeros_like(image)
                mask[10:30, 10:30] = 255
                media.write_image(folder / f"mask{person}.png", mask)
                line["mask"] = f"mask{person}.png"
            lines.append(json.dumps(line))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def values(folder: Path, kind: str = "sd15", **changes: Any) -> dict[str, Any]:
    """A run's configuration with dotted changes; the folder holds bases, sid and portraits."""
    config: dict[str, Any] = {
        "dataset_params": {
            "root_dir": str(folder / "portraits"),
            "resolution": 32,
            "num_workers": 0,
            "cache_dir": str(folder / "cache"),
        },
        "model_params": {
            "base_params": {"path": str(folder / kind)},
            "sid_params": {"config": str(folder / "sid.yaml"), "checkpoint": str(folder / "sid.pth.tar")},
            "expression_params": {"tokens": 2},
        },
        "train_params": {
            "num_epochs": 2,
            "num_repeats": 2,
            "batch_size": 4,
            "lr": 1e-2,
            "checkpoint_freq": 1,
            "ema_decay": 0.5,
            "gradient_clip": 1,
            "noise_offset": 0.05,
            "face_weight": 2,
            "dropout_params": {"text": 0.2, "identity": 0.2, "expression": 0.2, "all": 0.1},
        },
        "validation_params": {"steps": 2, "prompts": ["a red hat"]},
    }
    config = copy.deepcopy(config)
    for path, value in changes.items():
        *sections, key = path.split(".")
        section = config
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    return config


def write_config(path: Path, folder: Path, kind: str = "sd15", **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(values(folder, kind, **changes)))
    return path


def write_workshop(folder: Path) -> Path:
    for kind in tiny_base.KINDS:
        tiny_base.save(kind, folder / kind)
    write_portraits(folder / "portraits")
    return write_sid(folder)
