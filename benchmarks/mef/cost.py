"""What a thousand pictures cost: cached, read, learnt from and drawn, from a folder, shards, and a cache in shards."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from modules.config.files import mef_config_from_dict
from modules.config.schema import merged, read_yaml
from modules.data.portraits import read_portraits
from modules.data.shards.writing import write_shards
from modules.data.synthetic.dataset import Plan, write_dataset
from modules.mef.cost import cost as told
from modules.mef.inference import Portraitist, load_pipeline
from modules.mef.options import PortraitOptions
from modules.mef.train import train_mef
from modules.training.command import Run

from .estimates import BUNDLED
from .sd15 import ROOT

CONFIG = ROOT / "config" / "mef-demo.yaml"
BATCH, STILLS, EACH, DRAWN = 16, 4, 64, 8  # pictures of a step, of a person, of a shard, and drawn


def cost(pictures: int) -> None:
    """The real commands, which tell it themselves, on ``pictures`` renders: by the bundled base, on the CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder, Plan(pictures // STILLS, stills=STILLS, clips=0, close=True))
        portraits, _ = read_portraits(folder / "stills")
        started = time.perf_counter()
        shards = write_shards(portraits, folder / "shards", EACH)
        print(told("writing shards", len(portraits), time.perf_counter() - started))
        sources = {"a folder": folder / "stills", "shards": folder / "shards" / _pattern(len(shards))}
        for source, root in sources.items():
            print(f"from {source}:", flush=True)
            _train(folder / f"from {source}", str(root))
        print("drawn at 30 steps, guided:")
        options = PortraitOptions(prompt=portraits[0].text, num_images=DRAWN)
        artist = Portraitist(load_pipeline(str(BUNDLED), crop=False, cpu=True), options, str(portraits[0].image))
        artist.draw(None)
        print(told("drawing", artist.drawn, artist.seconds))


def _pattern(count: int) -> str:
    return f"portraits-{{00000..{count - 1:05d}}}.tar"


def _train(folder: Path, root: str) -> None:
    folder.mkdir()
    changes = {
        "dataset_params": {"root_dir": root, "cache_dir": str(folder / "cache"), "num_workers": 0},
        "train_params": {"num_epochs": 4, "batch_size": BATCH, "precision": "fp32", "warmup_steps": 0},
        "validation_params": {"steps": 1},
    }
    path = folder / "cost.yaml"
    path.write_text(CONFIG.read_text())
    train_mef(mef_config_from_dict(merged(read_yaml(CONFIG), changes)), Run(str(path), log_dir=str(folder), cpu=True))
