"""Portraits in tar shards: on a disk, from a real web server, read by webdataset and written by it."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import scripts
import webdataset
from shard_server import NAME, Server

from modules import media
from modules.data.portraits import read_portraits
from modules.data.shards.reading import read_shards
from modules.data.shards.writing import write_shards
from modules.errors import UserError
from modules.storage import places, tars

pytest_plugins = "shard_server"  # its fixtures


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
