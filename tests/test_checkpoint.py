"""Checkpoints: safe to open, atomic, strict, and FOMM's."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from tiny import OWN_EXPRESSION, tiny_params

from modules.atomic import replacing
from modules.config.files import section_from_dict
from modules.config.sid import ModelParams
from modules.errors import UserError
from modules.sid import weights
from modules.sid.export import inference_checkpoint
from modules.sid.model import SID, build_discriminator
from modules.training.checkpoint import load_checkpoint, save_checkpoint
from modules.training.checkpoint_file import check_file

ROOT = Path(__file__).parent.parent
FOMM = Path(__file__).parent / "data" / "fomm_small" / "checkpoint.pth.tar"


class Intruder:
    def __reduce__(self):
        return (os.mkdir, ("owned",))


def test_a_pickle_of_anything_else_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"generator": Intruder()}, "bad.pth")
    with pytest.raises(UserError, match=r"bad.pth: refused: .*mkdir"):
        load_checkpoint("bad.pth")
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such checkpoint file"),
        (b"not a checkpoint", "refused"),
        (b"", "neither a PyTorch"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page.*download"),
    ],
)
def test_unreadable_files_are_named(tmp_path, content, message):
    path = tmp_path / "x.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_cut_off_checkpoint_is_named(tmp_path):
    path = tmp_path / "cut.pth.tar"
    path.write_bytes(FOMM.read_bytes()[:300_000])
    with pytest.raises(UserError, match="cut.pth.tar: neither a PyTorch nor a safetensors file"):
        load_checkpoint(path)


def test_an_unpacked_checkpoint_is_named(tmp_path):
    path = tmp_path / "whole.pth.tar"
    save_checkpoint({"epoch": 1}, path)
    zipfile.ZipFile(path).extractall(tmp_path / "unpacked.pth.tar")
    with pytest.raises(UserError, match="unpacked.pth.tar: is a folder; an unpacked checkpoint: give the file"):
        load_checkpoint(tmp_path / "unpacked.pth.tar")


@pytest.mark.parametrize("kind", ["now.pth", "legacy.pth", "x.safetensors"])
def test_damage_of_any_kind_is_one_line(tmp_path, kind):
    params = tiny_params(encoders=False)
    path, chance = tmp_path / kind, random.Random(0)
    if kind == "legacy.pth":
        torch.save(weights.state(SID(params)), path, _use_new_zipfile_serialization=False)
    else:
        save_checkpoint(weights.state(SID(params)), path)
    whole, refused = path.read_bytes(), 0
    for _ in range(150):
        damaged = bytearray(whole)
        if chance.random() < 0.2:
            del damaged[chance.randrange(len(whole)) :]
        for _ in range(chance.choice((1, 2, 8, 30))):
            place = chance.randrange(chance.choice((len(damaged), min(len(damaged), 700))) or 1)
            damaged[place : place + 1] = bytes([chance.randrange(256)])
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                weights.load_state(SID(params), load_checkpoint(path), path)
            except UserError as error:
                assert str(path) in str(error) and "\n" not in str(error)
                refused += 1
    assert refused > 50


def test_killed_while_writing_leaves_the_old_file_readable(tmp_path):
    path = tmp_path / "state.pth"
    save_checkpoint({"epoch": 1, "x": torch.ones(10)}, path)
    script = f"""
import torch
from modules.training.checkpoint import save_checkpoint
print("ready", flush=True)
while True:
    save_checkpoint({{"epoch": 2, "x": torch.ones(3_000_000)}}, {str(path)!r})
"""
    for delay in (0.0, 0.02, 0.05, 0.11):
        writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
        writer.stdout.readline()
        signal.sigtimedwait([], delay)
        writer.kill()
        writer.wait()
        assert load_checkpoint(path)["epoch"] in (1, 2)


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "x") as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="x.pth: cannot be written"):
        save_checkpoint({}, tmp_path / "file" / "x.pth")


@pytest.mark.parametrize("suffix", [".pth.tar", ".safetensors"])
@pytest.mark.parametrize("size", [5_000, 100_000])  # the disk is full at the end of the file, and before
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, full_disk, suffix, size):
    path = tmp_path / f"x{suffix}"
    with pytest.raises(UserError, match=r"cannot be written \(File too large\); free space") as error:
        save_checkpoint({"generator": {"weight": torch.randn(size)}}, path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".pth.tar", ".safetensors"])
def test_round_trip_of_half_precision_weights(tmp_path, suffix):
    params = tiny_params()
    model = SID(params).eval()
    save_checkpoint(weights.state(model), tmp_path / "trained.pth")
    save_checkpoint(inference_checkpoint(params, tmp_path / "trained.pth"), tmp_path / f"model{suffix}")
    loaded = weights.load_model(params, tmp_path / f"model{suffix}")
    for (name, a), b in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert b.dtype == a.dtype, name
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)  # fp16 keeps 11 bits
    assert load_checkpoint(tmp_path / f"model{suffix}")["model_params"]["common_params"]["num_kp"] == 5


def test_encoders_of_a_run_of_their_own_come_with_their_detector_and_motions(tmp_path):
    params = tiny_params(**OWN_EXPRESSION)
    for name in ("whole", "encoders"):
        model = SID(params)
        for values in (weights.FACE_MOTIONS, weights.FACE_AMOUNTS):
            torch.nn.init.normal_(model.generator.state_dict()[values])
        save_checkpoint(weights.state(model), tmp_path / f"{name}.pth")
    merged = inference_checkpoint(params, tmp_path / "whole.pth", tmp_path / "encoders.pth")
    for entry, name in (("generator", "whole"), ("kp_detector", "encoders"), ("encoders", "encoders")):
        plain = inference_checkpoint(params, tmp_path / f"{name}.pth")[entry]
        if entry == "generator":
            theirs = inference_checkpoint(params, tmp_path / "encoders.pth")[entry]
            for values in (weights.FACE_MOTIONS, weights.FACE_AMOUNTS):
                assert not torch.equal(plain[values], theirs[values])
                plain[values] = theirs[values]
        assert all(torch.equal(merged[entry][key], value) for key, value in plain.items()), entry


def test_names_of_earlier_versions_are_known(tmp_path):
    model = SID(tiny_params())
    state = weights.state(model)
    new, old = "dense_motion_network.semantic_flow.", "dense_motion_network.film."
    whole = {name.replace(new, old): torch.rand(t.shape).to(t.dtype) for name, t in state["generator"].items()}
    assert any(name.startswith(old) for name in whole)
    save_checkpoint(state | {"generator": whole}, tmp_path / "earlier.pth")
    loaded = weights.load_model(tiny_params(), tmp_path / "earlier.pth").generator.state_dict()
    assert all(torch.equal(loaded[name.replace(old, new)], value) for name, value in whole.items())


def test_misfits_are_named_in_one_line(tmp_path):
    plain, full = tiny_params(encoders=False), tiny_params()
    save_checkpoint(weights.state(SID(plain)), tmp_path / "plain.pth")
    save_checkpoint(weights.state(SID(full)), tmp_path / "full.pth")
    cases = [
        (full, "plain.pth", "has no encoders"),
        (plain, "full.pth", "has encoders, but the configuration has no"),
    ]
    for params, name, message in cases:
        with pytest.raises(UserError, match=message):
            weights.load_model(params, tmp_path / name)
    with pytest.raises(UserError, match=r"has shape \[.*\], the configured model|it has |it lacks "):
        weights.load_model(plain, FOMM)
    save_checkpoint({"weights": 1}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="no entry 'generator'"):
        weights.load_model(plain, tmp_path / "other.pth")


def test_fomm_reads_ours(tmp_path):
    """FOMM's demo does ``torch.load`` and a strict ``load_state_dict`` of these two entries, its trainer of all."""
    folder = FOMM.parent
    params = section_from_dict(ModelParams, yaml.safe_load((folder / "config.yaml").read_text())["model_params"])
    save_checkpoint(weights.state(SID(params)) | {"epoch": 3}, tmp_path / "ours.pth.tar")
    ours = torch.load(tmp_path / "ours.pth.tar", weights_only=True)
    theirs = torch.load(FOMM, weights_only=True)
    for part in ("generator", "kp_detector"):
        assert {k: v.shape for k, v in ours[part].items()} == {k: v.shape for k, v in theirs[part].items()}
    assert build_discriminator(params).state_dict().keys() == theirs["discriminator"].keys()


def test_a_safetensors_file_whose_length_looks_like_a_tag_is_no_web_page(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes((0x3C20).to_bytes(8, "little") + b"{}".ljust(0x3C20))  # its first bytes are b" <"
    check_file(path)
