"""MEF trained on tar shards, on a disk and from a real web server: as on a folder, bit for bit also when resumed."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import scripts
import torch
import webdataset
from shard_server import NAME, Server
from test_mef_training import PARAMETERS, command, train
from test_training import assert_identical, newest
from tiny_mef import values, write_config

from modules.config.files import mef_config_from_dict
from modules.data.sampling import loader_of
from modules.errors import UserError
from modules.mef.cache.shards import Cache
from modules.mef.dataset import PortraitDataset
from modules.mef.train import read_tables
from modules.storage import places
from modules.training.checkpoint import load_checkpoint

pytest_plugins = "shard_server"  # its fixtures


def config_of(workshop: Path, root: str, cache: str | None, **changes):
    changes |= {"dataset_params.root_dir": root, "dataset_params.cache_dir": cache}
    return mef_config_from_dict(values(workshop, **changes))


def dataset_of(workshop: Path, root: str) -> PortraitDataset:
    config = config_of(workshop, root, None)
    return PortraitDataset(read_tables(config)[0], (4, 4, 4), 1000, config.train_params)


def seen(dataset, params, workers: int, rank: int = 0, world: int = 1, done: int = 0) -> list[list[int]]:
    loader = loader_of(dataset, params, workers, rank, world)
    loader.batch_sampler.set_position(1, done)
    return [batch["latents"].tolist() for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_of_shards_is_split_and_resumed_without_repeat_or_loss(workshop, workers):
    """Over processes and loader workers; a run that stopped after any batch sees exactly the rest, in its order."""
    dataset = dataset_of(workshop, str(workshop / "shards" / NAME))
    params = config_of(workshop, "x.tar", None, **{"train_params.num_repeats": 1}).train_params
    whole = seen(dataset, params, workers)
    assert Counter(row for batch in whole for row in batch) == Counter(dict.fromkeys(range(8), 2))
    parts = [seen(dataset, params, workers, rank, 2) for rank in range(2)]
    assert [one + other for one, other in zip(*parts, strict=True)] == whole
    assert seen(dataset, params, workers, done=2) == whole[2:]
    assert [seen(dataset, params, workers, rank, 2, done=3) for rank in range(2)] == [part[3:] for part in parts]


@pytest.fixture(scope="module")
def from_folder(workshop, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return train(write_config(folder / "tiny.yaml", workshop), log_dir=str(folder / "log"))


def test_shards_train_as_the_folder_does_and_tell_what_it_costs(workshop, from_folder, tmp_path, server, capsys):
    """From a server, cached and in workers: the weights of the run on the folder, bit for bit."""
    changes = {"dataset_params.root_dir": f"{server.url}/shards/{NAME}", "dataset_params.num_workers": 2}
    changes["dataset_params.cache_dir"] = str(tmp_path / "cache")
    config = write_config(tmp_path / "tiny.yaml", workshop, **changes)
    folder = train(config, log_dir=str(tmp_path / "log"))
    name = "00000001-checkpoint.pth.tar"
    one, other = load_checkpoint(from_folder / name), load_checkpoint(folder / name)
    for checkpoint in (one, other):
        checkpoint.pop("mef")  # the configurations differ in where the data lie
    assert_identical(one, other)
    out = capsys.readouterr().out
    assert re.search(r"caching: [\d.,]+ s per 1,000 pictures \(8\), [\d.]+ GiB at most", out)
    assert re.search(r"training: [\d.,]+ s per 1,000 pictures \(32\), [\d.]+ GiB at most", out)


def test_a_cache_is_read_from_a_server_too(workshop, from_folder, tmp_path, server):
    """Data and cache at URLs: nothing of either is on the disk, and the weights are the same."""
    shards = f"{server.url}/shards/{NAME}"
    train(
        write_config(tmp_path / "a.yaml", workshop, **{"dataset_params.root_dir": shards}),
        log_dir=str(tmp_path / "log"),
    )
    changes = {"dataset_params.root_dir": shards, "dataset_params.cache_dir": f"{server.url}/cache"}
    folder = train(write_config(tmp_path / "b.yaml", workshop, **changes), log_dir=str(tmp_path / "log"))
    for file in ("identity_adapter.safetensors", "expression_adapter.safetensors"):
        assert_identical(load_checkpoint(from_folder / "adapters" / file), load_checkpoint(folder / "adapters" / file))
    rows = list(webdataset.WebDataset(str(next((workshop / "cache").glob("*/latents-00000.tar"))), shardshuffle=False))
    assert [row["__key__"] for row in rows] == [f"{i:05d}" for i in range(8)] and "safetensors" in rows[0]
    other = config_of(workshop, shards, f"{server.url}/cache", **{"dataset_params.resolution": 64})
    with pytest.raises(UserError, match="has no whole cache of this data and these networks; build it in a folder"):
        Cache(other, read_tables(other)[0]).incomplete()


def test_killed_and_continued_on_shards_it_ends_bit_identical(workshop, from_folder, tmp_path, server):
    """kill -9 in the middle of an epoch, then to its end."""
    changes = {"dataset_params.root_dir": f"{server.url}/shards/{NAME}", "train_params.checkpoint_minutes": 1e-6}
    changes["dataset_params.cache_dir"] = str(tmp_path / "cache")
    config = write_config(tmp_path / "tiny.yaml", workshop, **changes)
    run = scripts.start(*command(config, tmp_path / "log", "--resume", "auto"))
    while newest(tmp_path / "log") is None:  # a step is done and saved
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)
    folder = train(config, log_dir=str(tmp_path / "log"), resume="auto")
    name = "00000001-checkpoint.pth.tar"
    one, other = load_checkpoint(from_folder / name), load_checkpoint(folder / name)
    for checkpoint in (one, other):
        checkpoint.pop("mef")
    assert_identical(one, other)


def test_two_processes_share_shards_and_step_like_one(workshop, tmp_path, server):
    """Over gloo: equal parameters, near those of one process; each picture's row is read once."""
    changes = {"train_params.num_repeats": 1, "dataset_params.root_dir": f"{server.url}/shards/{NAME}"}
    changes["dataset_params.cache_dir"] = str(tmp_path / "cache")
    config = write_config(tmp_path / "tiny.yaml", workshop, **changes)
    script = tmp_path / "parameters.py"
    script.write_text(PARAMETERS.format(config=str(config), out=str(tmp_path / "p")))
    scripts.run_together(2, script)
    exec(compile(script.read_text(), str(script), "exec"), {})
    one, two, other = (torch.load(tmp_path / f"p-{name}.pth", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    assert_identical(two, other)
    for name in ("identity_adapter", "expression_adapter"):
        for key, value in one[name]["ip_adapter"].items():
            # Adam divides by the root of tiny squares: rounding shows where gradients are nearly nothing
            assert float((two[name]["ip_adapter"][key] - value).abs().max()) < 0.1 * 1e-2, key


def test_a_missing_shard_ends_a_run_in_one_line(workshop, tmp_path, server):
    changes = {"dataset_params.root_dir": f"{server.url}/shards/portraits-{{00000..00003}}.tar"}
    done = scripts.run(*command(write_config(tmp_path / "tiny.yaml", workshop, **changes), tmp_path / "log"))
    place = f"{server.url}/shards/portraits-00003.tar"
    assert done.returncode == 2 and not (tmp_path / "log").exists()
    assert done.stderr.strip() == f"error: {place}: no such file; check the name, and the numbers in its braces"


def test_a_server_that_goes_away_ends_a_run_and_leaves_no_reason_in_the_cache(workshop, tmp_path, impatient):
    """A picture that cannot be read is left out; a shard out of reach is not the picture's fault."""
    with Server(workshop) as server:
        config = write_config(
            tmp_path / "tiny.yaml",
            workshop,
            **{
                "dataset_params.root_dir": f"{server.url}/shards/{NAME}",
                "dataset_params.cache_dir": str(tmp_path / "c"),
            },
        )
        read = places.read

        def failing(place, *part):
            if part and place.endswith("00001.tar"):
                server.failing = 99
            return read(place, *part)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(places, "read", failing)
            with pytest.raises(UserError, match="portraits-00001.tar: cannot be read"):
                train(config, log_dir=str(tmp_path / "log"))
    assert not list((tmp_path / "c").glob("*/*.tar"))
