"""Portraits and cached rows in tar shards: on a disk, from a real web server, read by webdataset and written by it."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import re
import shutil
import signal
import tarfile
import threading
import time
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pytest
import scripts
import torch
import webdataset
from test_mef_training import PARAMETERS, command, train
from test_training import assert_identical, newest
from tiny_mef import values, write_config, write_workshop

from modules import media
from modules.config.files import mef_config_from_dict
from modules.data.portraits import read_portraits
from modules.data.sampling import loader_of
from modules.data.shards.reading import read_shards
from modules.data.shards.writing import write_shards
from modules.errors import UserError
from modules.mef.cache.shards import Cache
from modules.mef.dataset import PortraitDataset
from modules.mef.train import read_tables
from modules.storage import places, tars
from modules.training.checkpoint import load_checkpoint

NAME = "portraits-{00000..00002}.tar"  # of eight portraits, three in a shard
AGAIN = "copy or write this shard again"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    folder = write_workshop(tmp_path_factory.mktemp("workshop"))
    write_shards(read_portraits(folder / "portraits")[0], folder / "shards", 3)
    return folder


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; with ranges, as web servers and stores do, unless told not to."""

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.asked: list[tuple[str, str | None]] = []  # path, range
        self.failing, self.ranges = 0, True
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        if self.server.failing:
            self.server.failing -= 1
            self.send_error(503)
            return
        if wanted is None or not self.server.ranges:
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted).groups()
        part = content[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(workshop):
    with Server(workshop) as made:
        yield made
        made.shutdown()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(places, "PAUSES", (0.01, 0.01))


# ------------------------------------------------------------------------------------------------------------- shards


def test_braces_stand_for_several_names():
    assert places.expand("s3://b/a-{08..10}-{x,y}.tar") == [
        f"s3://b/a-{n}-{c}.tar" for n in ("08", "09", "10") for c in "xy"
    ]
    assert places.expand("a.tar") == ["a.tar"]
    for wrong, said in (
        ("a-{3..1}.tar", "is no choice"),
        ("a-{1}.tar", "is no choice"),
        ("a-{1..2.tar", "do not match"),
    ):
        with pytest.raises(UserError, match=said):
            places.expand(wrong)


def test_shards_hold_what_the_folder_does(workshop):
    """And the same files give the same bytes, whenever they are written."""
    before, _ = read_portraits(workshop / "portraits")
    after, bad = read_shards(str(workshop / "shards" / NAME))
    assert not bad and [p.text for p in after] == [p.text for p in before]
    assert [p.identity for p in after] == [p.identity for p in before]
    for old, new in zip(before, after, strict=True):
        assert (old.mask is None) == (new.mask is None)
        for one, other in zip(old.files, new.files, strict=True):
            assert np.array_equal(media.read_image(one), media.read_image(other))
    write_shards(before, workshop / "again", 3)
    for path in sorted((workshop / "shards").iterdir()):
        assert path.read_bytes() == (workshop / "again" / path.name).read_bytes()
    with pytest.raises(UserError, match="is there already"):
        write_shards(before, workshop / "again", 3)


def test_a_pictures_own_exemplar_and_person_go_with_it_and_nobody_stays_nobody(workshop, tmp_path):
    for name in ("a.png", "b.png"):
        shutil.copy(workshop / "portraits" / "p0_0.png", tmp_path / name)
    lines = [{"file_name": "a.png", "text": "a hat", "reference_image": "b.png", "identity_image": "b.png"}]
    lines.append({"file_name": "b.png", "text": "a hat"})
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path,) = write_shards(read_portraits(tmp_path)[0], tmp_path / "shards", 10)
    (first, second), _ = read_shards(str(path))
    assert (
        first.reference_image.name == "00000000.reference.png" and first.identity_image.name == "00000000.identity.png"
    )
    assert second.reference_image is None and first.is_alone and second.is_alone and first.identity != second.identity


def test_webdataset_reads_our_shards_and_we_read_its(workshop, tmp_path):
    ours = str(workshop / "shards" / NAME)
    portraits, _ = read_shards(ours)
    samples = list(webdataset.WebDataset(ours, shardshuffle=False).decode("rgb8"))
    assert [sample["json"]["text"] for sample in samples] == [p.text for p in portraits]
    for sample, portrait in zip(samples, portraits, strict=True):
        assert np.array_equal(sample["png"], media.read_image(portrait.image))
    with webdataset.TarWriter(str(tmp_path / "its.tar")) as writer:
        for i, sample in enumerate(samples):
            writer.write({"__key__": f"person/{i}", "jpg": sample["png"], "txt": f" a hat, {i}\n"})
    its, bad = read_shards(str(tmp_path / "its.tar"), tmp_path / "indices")
    assert not bad and [p.text for p in its] == [f"a hat, {i}" for i in range(8)]
    assert all(media.read_image(p.image).shape == (48, 48, 3) for p in its) and len({p.identity for p in its}) == 8
    (kept,) = (tmp_path / "indices").iterdir()  # the headers were walked through once
    assert its == read_shards(str(tmp_path / "its.tar"), tmp_path / "indices")[0] and kept.is_file()


def test_samples_that_lack_something_are_left_out_and_named(tmp_path):
    picture = io.BytesIO()
    media.image.Image.new("RGB", (8, 8)).save(picture, "PNG")
    files = {
        "good.png": picture.getvalue(),
        "good.txt": b"a hat",
        "mute.png": picture.getvalue(),
        "list.png": picture.getvalue(),
        "list.json": b"[1]",
        "blind.json": b'{"text": "a hat"}',
    }
    tars.write_tar(tmp_path / "a.tar", [(name, content, 0) for name, content in files.items()])
    portraits, bad = read_shards(str(tmp_path / "a.tar"))
    assert [p.image.name for p in portraits] == ["good.png"]
    reasons = {"mute": "no caption", "list": "its .json is no object", "blind": "no picture; expected blind.jpg"}
    assert {name.rpartition("/")[2] for name in bad} == set(reasons)
    assert all(reasons[name.rpartition("/")[2]] in reason for name, reason in bad.items())


def test_the_command_writes_shards_that_the_configuration_can_name(workshop, tmp_path):
    args = (
        "-m",
        "modules.data.shards",
        "--portraits",
        str(workshop / "portraits"),
        "--out",
        str(tmp_path / "out"),
        "--each",
        "3",
    )
    done = scripts.run(*args)
    assert done.returncode == 0 and f"{tmp_path}/out/{NAME}: 8 portraits" in done.stdout
    assert len(read_shards(str(tmp_path / "out" / NAME))[0]) == 8
    done = scripts.run(*args)
    assert done.returncode == 2 and done.stderr == f"error: {tmp_path}/out: is there already; choose another --out\n"


# ------------------------------------------------------------------------------------------------- what may be wrong


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def without_index(path: Path) -> None:
    Path(tars.index_place(str(path))).unlink()


def overwritten(path: Path) -> None:
    """A header in the middle is damaged, which tarfile itself takes for the end."""
    without_index(path)
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[2].offset
    content = bytearray(path.read_bytes())
    content[offset + 150] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda path: path.unlink(), "no such file; check the name, and the numbers in its braces"),
        (lambda path: cut(path, 3000), "has 3000 bytes, .* by its index: cut off or changed; copy the shard again"),
        (
            lambda path: (without_index(path), cut(path, 3000)),
            "is no whole tar file .*; copy or write this shard again",
        ),
        (lambda path: (without_index(path), cut(path, 100)), "is no whole tar file .*; copy or write this shard again"),
        (lambda path: (without_index(path), path.write_bytes(b"\x1f\x8b" * 900)), "is no whole tar file"),
        (overwritten, "is no whole tar file .damaged at byte .*; copy or write this shard again"),
        (
            lambda path: Path(tars.index_place(str(path))).write_text("{"),
            "index.json: is no index of a shard; delete it",
        ),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_a_bad_shard_is_one_line_that_names_it(workshop, tmp_path, damage, said, remote):
    folder = shutil.copytree(workshop / "shards", tmp_path / "shards")
    damage(folder / "portraits-00001.tar")
    with Server(folder) as server:
        place = server.url if remote else str(folder)
        with pytest.raises(UserError, match=f"^{re.escape(place)}/portraits-00001.*{said}") as told:
            read_shards(f"{place}/{NAME}")
        assert "\n" not in str(told.value)


def test_a_shard_that_is_not_that_of_its_index_is_not_read(workshop, tmp_path):
    """Of the same length, so that the index cannot tell; but each member's header stands before it."""
    folder = shutil.copytree(workshop / "shards", tmp_path / "shards")
    portraits, _ = read_shards(str(folder / NAME))
    path = folder / "portraits-00000.tar"
    content = path.read_bytes()
    path.write_bytes(content[512:] + content[:512])
    with pytest.raises(UserError, match="portraits-00000.tar: is no whole tar file .*copy or write this shard again"):
        media.read_image(portraits[0].image)


def test_a_connection_that_fails_is_tried_again_and_a_server_that_is_gone_is_one_line(workshop, server, impatient):
    portraits, _ = read_shards(f"{server.url}/shards/{NAME}")
    server.failing = 2
    expected = media.read_image(workshop / "portraits" / "p0_0.png")
    assert np.array_equal(media.read_image(portraits[0].image), expected)
    server.failing = 99
    with pytest.raises(UserError, match="portraits-00001.tar: cannot be read .*check the address and the connection"):
        media.read_image(portraits[3].image)


def test_a_server_without_ranges_is_told(server):
    portraits, _ = read_shards(f"{server.url}/shards/{NAME}")
    server.ranges = False
    for portrait in portraits[:2]:
        with pytest.raises(UserError, match="sends whole files only, no ranges; copy the shards to a disk"):
            media.read_image(portrait.image)


def test_pictures_that_follow_one_another_come_in_blocks_and_others_alone(workshop, server):
    """Caching reads shards from front to back; training picks its rows."""
    portraits, _ = read_shards(f"{server.url}/shards/{NAME}")
    server.asked.clear()
    for portrait in portraits[:3]:
        media.read_image(portrait.image)
    assert len(server.asked) == 2  # the first picture; a block with the others
    server.asked.clear()
    for i in (7, 5, 6, 4):
        media.read_image(portraits[i].image)
    sizes = [int(last) - int(first) + 1 for _, wanted in server.asked for first, last in [wanted[6:].split("-")]]
    assert sizes == [portraits[i].image.size + 512 for i in (7, 5, 6, 4)]


def test_stores_of_other_kinds_are_read_through_fsspec(workshop):
    """fsspec's store in memory has the interface of S3's; with S3 itself nothing was tried."""
    store = fsspec.filesystem("memory")
    for path in (workshop / "shards").iterdir():
        store.pipe(f"/bucket/{path.name}", path.read_bytes())
    portraits, _ = read_shards(f"memory://bucket/{NAME}")
    expected = media.read_image(workshop / "portraits" / "p1_3.png")
    assert np.array_equal(media.read_image(portraits[-1].image), expected)


# ------------------------------------------------------------------------------------------------------------ training


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
