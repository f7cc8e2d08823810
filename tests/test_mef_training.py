"""MEF's training as users run it: cached or not, killed and resumed, shared out over processes; and its arithmetic."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from accelerate import Accelerator
from test_training import ROOT, assert_identical, newest
from tiny_mef import values, write_config, write_workshop
from torch.utils.data import default_collate

from modules import faces, media
from modules.config.files import load_mef_config, mef_config_from_dict
from modules.data.portraits import read_portraits
from modules.errors import UserError
from modules.mef import objectives
from modules.mef.cache.shards import Cache
from modules.mef.dataset import PortraitDataset
from modules.mef.estimators import clean_of
from modules.mef.expression_error import ExpressionError
from modules.mef.folder import ADAPTER_FILES, SID_FILE
from modules.mef.train import build_cache, build_frozen, embedding_sample, read_tables, train_mef
from modules.mef.validation import Validation
from modules.mef.weighting import face_weight
from modules.storage import places
from modules.training.checkpoint import load_checkpoint, save_checkpoint
from modules.training.command import Run
from modules.training.trainer import Trainer


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    return write_workshop(tmp_path_factory.mktemp("workshop"))


def train(config: Path, **options) -> Path:
    return train_mef(load_mef_config(config), Run(str(config), cpu=True, **options))


class Bench:
    """Objectives and its data set, built as a run builds them."""

    def __init__(self, workshop: Path, kind: str = "sd15", cached: bool = True, **changes):
        self.config = mef_config_from_dict(values(workshop, kind, **changes))
        self.tables, _ = read_tables(self.config)
        frozen = build_frozen(self.config)
        self.cache = None
        if cached:
            self.cache = Cache(self.config, self.tables)
            self.cache.build(self.cache.missing(), frozen, progress=False)
        params = self.config.train_params
        self.dataset = PortraitDataset(self.tables, frozen.latent_shape, 1000, params, self.cache, join=frozen.join)
        embeddings = embedding_sample(self.cache, self.tables, frozen)
        self.frozen = frozen
        self.learning = objectives.build(self.config, frozen, self.dataset, embeddings)
        self.adapters, self.step = self.learning.adapters, self.learning.step
        self.pretend_training()

    def pretend_training(self) -> None:
        """As if trained: else nothing else matters."""
        for layer, active in zip(self.adapters.layers, self.adapters.injected, strict=True):
            for value in layer.to_v_ip:
                torch.nn.init.normal_(value.weight, std=0.3 * active)

    def batch(self, items: list[int]) -> dict:
        return default_collate([self.dataset[0, i] for i in items])

    def losses(self, batch: dict) -> dict[str, float]:
        """Of a batch; the adapters' gradients are left behind."""
        step = self.step
        terms, _ = step(batch)
        self.adapters.zero_grad()
        sum(terms.values()).backward()
        return {name: term.item() for name, term in terms.items()}

    def gradient(self) -> torch.Tensor:
        return torch.cat([p.grad.flatten() for p in self.adapters.parameters() if p.requires_grad])


# ---------------------------------------------------------------------------------------------------------------- steps


@pytest.mark.parametrize("kind", ["sd15", "sd21", "sdxl"])
def test_a_cached_step_is_one_that_computes_everything_anew(workshop, kind):
    cached, anew = Bench(workshop, kind), Bench(workshop, kind, cached=False)
    assert "mean" in cached.batch([0]) and "mean" not in anew.batch([0])
    for items in ([0, 1, 2, 3], [9, 5, 12, 6]):
        one, other = cached.losses(cached.batch(items)), anew.losses(anew.batch(items))
        assert one == pytest.approx(other, rel=1e-5)  # pictures encoded in other batches: the last bits differ
        assert torch.allclose(cached.gradient(), anew.gradient(), rtol=1e-3, atol=1e-6)


def test_losses_do_not_depend_on_how_a_batch_is_shared_out(workshop):
    bench = Bench(workshop)
    together = bench.losses(bench.batch([3, 8, 1, 6]))
    whole = bench.gradient()
    parts, gradients = [], []
    for items in ([3, 8], [1, 6]):
        parts.append(bench.losses(bench.batch(items))["diffusion"])
        gradients.append(bench.gradient())
    assert np.mean(parts) == pytest.approx(together["diffusion"], rel=1e-5)
    assert torch.allclose(torch.stack(gradients).mean(dim=0), whole, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_recomputed_activations_give_the_same_gradients(workshop, kind):
    """Every block with adapters runs again in the backward pass, and nothing is lost on the way."""
    plain = Bench(workshop, kind)
    thrifty = Bench(workshop, kind, **{"train_params.gradient_checkpointing": True})
    thrifty.adapters.load(plain.adapters.state(), "plain")
    calls, losses, gradients = [], [], []
    for bench in (plain, thrifty):
        count = []
        step = bench.step.train()  # as the loop has it: else nothing is recomputed
        for layer in bench.adapters.layers:
            layer.to_k_ip[0].register_forward_hook(lambda *_, count=count: count.append(1))
        losses.append(bench.losses(bench.batch([0, 1, 2, 3]))["diffusion"])
        gradients.append(bench.gradient())
        calls.append(len(count))
        step.eval()
    assert calls[1] == 2 * calls[0] > 0
    assert losses[0] == losses[1]
    assert gradients[0].any() and torch.equal(gradients[0], gradients[1])


def test_a_condition_left_out_is_a_zero_embedding(workshop):
    """Tokens of a zero embedding are not zero: pipelines give the embedding's zero, so training must."""
    bench = Bench(workshop)
    batch = bench.batch([0, 1])
    step = bench.step
    seen = []
    step.unet.register_forward_pre_hook(lambda m, args, kwargs: seen.append((args, kwargs)), with_kwargs=True)
    for keep in ([True] * 3, [False] * 3, [True, False, True]):
        step(batch | {"keep": torch.tensor([keep, keep])})
    given = [kwargs["added_cond_kwargs"]["image_embeds"] for _, kwargs in seen]
    assert torch.equal(given[0][0][:, 0], batch["identity"]) and torch.equal(given[0][1][:, 0], batch["expression"])
    assert not given[1][0].any() and not given[1][1].any()
    assert not given[2][0].any() and torch.equal(given[2][1], given[0][1])
    empty = bench.frozen.text([""])["text"]
    assert torch.allclose(seen[1][0][2], empty.expand(2, -1, -1), atol=1e-5)


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_min_snr_weights_and_clean_estimates(workshop, kind):
    """The x0 loss weight min(snr, gamma), as a weight of the noise or v loss; x0 from the true noise or v is x0."""
    bench = Bench(workshop, kind)
    step = bench.step
    steps = torch.tensor([0, 10, 400, 999])
    kept = step.noise.alphas_cumprod[steps]
    snr = kept / (1 - kept)
    wanted = snr.clamp(max=5) / (snr if kind == "sd15" else snr + 1)
    assert torch.allclose(step._snr_weight(steps), wanted, rtol=1e-4)
    clean, noise = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8)
    noisy = step.noise.add_noise(clean, noise, steps)
    target = noise if kind == "sd15" else step.noise.get_velocity(clean, noise, steps)
    assert torch.allclose(clean_of(step.noise, noisy, target, steps), clean, atol=1e-3)


def test_the_face_mask_weighs_the_face(workshop):
    bench = Bench(workshop, **{"train_params.face_weight": 3.0})
    masked = next(i for i, p in enumerate(bench.tables.portraits) if p.mask is not None)
    face = bench.batch([masked])["face"]
    assert face.shape == (1, 1, 16, 16) and 0.1 < float(face.mean()) < 0.3
    weight = face_weight(face, bench.step.params.face_weight)
    assert float(weight.mean()) == pytest.approx(1) and float(weight.max() / weight.min()) == pytest.approx(3)


def test_faces_of_clean_estimates_can_be_compared(workshop):
    weights = {"identity": 1.0, "expression": 0.5, "max_timestep": 1000}
    bench = Bench(workshop, **{"train_params.loss_weights": weights})
    batch = bench.batch([0, 1, 2])
    given = batch | {"keep": torch.ones(3, 3, dtype=torch.bool)}
    terms = bench.losses(given)
    assert set(terms) == {"diffusion", "identity", "expression"}
    assert 0 < terms["identity"] < 2 and 0 < terms["expression"] < 1000
    nobody = bench.losses(batch | {"keep": torch.zeros(3, 3, dtype=torch.bool)})
    assert nobody["identity"] == nobody["expression"] == 0  # nobody was asked for


def test_who_an_estimate_shows_is_aligned_with_who_it_is_without_the_expression(workshop):
    """Nothing to align where the expression changes nothing; else a gradient, which the estimate without it has not."""
    bench = Bench(workshop, **{"train_params.loss_weights": {"alignment": 1.0, "max_timestep": 1000}})
    batch = bench.batch([0, 1, 2])
    given = batch | {"keep": torch.ones(3, 3, dtype=torch.bool)}
    same = bench.losses(given | {"expression": torch.zeros_like(batch["expression"])})
    assert same["alignment"] == pytest.approx(0, abs=1e-5)
    assert 1e-5 < bench.losses(given)["alignment"] < 2
    for column in (1, 2):  # of a person or an expression that was left out nothing is asked
        keep = torch.ones(3, 3, dtype=torch.bool)
        keep[:, column] = False
        assert bench.losses(batch | {"keep": keep})["alignment"] == 0
    passes = []
    bench.step.unet.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    bench.step(given)
    assert passes == [True, False]


@pytest.mark.parametrize("part", [slice(None, 3), slice(3, None)], ids=["expression", "pose"])
def test_expression_and_pose_of_an_estimate_count_alike(part):
    """However many numbers each has: one part alone as far off as pictures are from their mean is an error of 1/2."""
    known = torch.randn(50, 12) * torch.tensor([3.0] * 3 + [0.1] * 9)
    error = ExpressionError((3, 9), known)
    wanted, off = torch.zeros(50, 12), known - known.mean(dim=0)
    found = wanted.clone()
    found[:, part] = off[:, part]
    assert float(error(found, wanted).mean()) == pytest.approx(0.5)


def test_errors_of_expressions_stay_finite_for_pictures_that_are_all_alike():
    alike = torch.ones(1, 12)
    error = ExpressionError((3, 9), alike)
    assert error(alike, alike).tolist() == [0]
    assert error(0 * alike, alike).item() == pytest.approx(100)


ALWAYS_GIVEN = {"train_params.dropout_params": dict.fromkeys(("text", "identity", "expression", "all"), 0)}


def learns_to_tell_apart(bench: Bench, steps: int) -> None:
    """Some steps on two portraits under one noise: the loss falls, and the wrong person's embedding raises it."""
    batch = bench.batch([0, 4])
    batch |= {"timestep": torch.full((2,), 600), "keep": torch.ones(2, 3, dtype=torch.bool)}
    optimizer = bench.learning.objectives[0].optimizers["optimizer_adapters"]
    losses = []
    for _ in range(steps):
        losses.append(bench.losses(batch)["diffusion"])
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    swapped = batch | {name: batch[name].flip(0) for name in ("identity", "expression")}
    assert bench.losses(swapped)["diffusion"] > 1.02 * bench.losses(batch)["diffusion"]


def test_the_adapters_learn_to_tell_people_apart(workshop):
    learns_to_tell_apart(Bench(workshop, **ALWAYS_GIVEN, **{"train_params.min_snr_gamma": None}), steps=40)


# ----------------------------------------------------------------------------------------------------------------- data


def test_identity_comes_from_another_photo_and_expression_from_the_portrait(workshop):
    bench = Bench(workshop)
    for i in range(len(bench.dataset)):
        item = bench.dataset[1, i]
        portrait = bench.tables.portraits[item["latents"]]
        assert bench.tables.pictures[item["expression_face"]] == portrait.image
        other = bench.tables.pictures[item["identity_face"]]
        assert other != portrait.image and other.name[:2] == portrait.image.name[:2]
    again = bench.dataset[1, 3]
    assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(again[k])) for k, v in bench.dataset[1, 3].items())
    assert not torch.equal(again["noise"], bench.dataset[2, 3]["noise"])


@pytest.mark.parametrize("cached", [True, False])
def test_bad_portraits_are_left_out_and_named(workshop, tmp_path, cached):
    folder = tmp_path / "shop"
    folder.mkdir()
    shutil.copytree(workshop / "portraits", folder / "portraits")
    for name in ("sid.yaml", "sid.pth.tar"):
        shutil.copy(workshop / name, folder / name)
    (folder / "sd15").symlink_to(workshop / "sd15")
    (folder / "portraits" / "p0_1.png").write_bytes(b"no picture")
    with open(folder / "portraits" / "metadata.jsonl", "a") as metadata:
        metadata.write(json.dumps({"file_name": "gone.png", "text": "a hat"}) + "\n")
    (folder / "portraits" / "mask1.png").write_bytes(b"no mask")
    changes = {"train_params.num_epochs": 1} | ({} if cached else {"dataset_params.cache_dir": None})
    run = train(write_config(folder / "run.yaml", folder, **changes), log_dir=str(folder / "log"))
    log = (run / "log.txt").read_text()
    assert "gone.png: gone.png: no such file" in log and "p0_1.png: is not a picture that can be read" in log
    assert "p1_0.png: " in log and "mask1.png: is not a picture that can be read" in log
    assert log.count("left out") == 3 and "diffusion - " in log


@pytest.mark.parametrize("cached", [True, False])
def test_portraits_without_a_face_are_left_out_where_it_is_looked_for(workshop, tmp_path, monkeypatch, cached):
    class Detector:
        def __call__(self, image, min_size=None):
            return [faces.Detection(faces.Box(8, 8, 40, 40), 1.0)] if image.std() else []

    monkeypatch.setattr(faces, "load_detector", lambda name, cpu: Detector())
    root = shutil.copytree(workshop / "portraits", tmp_path / "portraits")
    media.write_image(root / "grey.png", np.full((48, 48, 3), 128, np.uint8))
    lines = [
        {"file_name": "grey.png", "text": "a hat"},
        {"file_name": "grey.png", "text": "a hat", "identity_image": "p0_0.png", "reference_image": "p1_0.png"},
    ]
    with open(root / "metadata.jsonl", "a") as metadata:
        metadata.writelines(json.dumps(line) + "\n" for line in lines)
    changes = {
        "dataset_params.root_dir": str(root),
        "dataset_params.crop_faces": True,
        "train_params.num_epochs": 1,
        "dataset_params.cache_dir": str(tmp_path / "cache") if cached else None,
    }
    config = write_config(tmp_path / "run.yaml", workshop, **changes)
    log = (train(config, log_dir=str(tmp_path / "log")) / "log.txt").read_text()
    assert log.count("left out") == 1 and "grey.png: no face found in" in log  # the other's faces are elsewhere
    (root / "metadata.jsonl").write_text(json.dumps(lines[0]))
    with pytest.raises(UserError, match="none of the portraits can be used, such as .*grey.png: no face found in"):
        train(config, log_dir=str(tmp_path / "log"))


def test_a_sample_of_embeddings_is_spread_out_small_and_read_in_parts(workshop, monkeypatch):
    bench = Bench(workshop, cached=False)
    asked = []

    class Encoder:
        def embeddings(self, paths):
            asked.append(len(paths))
            return {name: torch.tensor([[float(path.stem)] for path in paths]) for name in ("identity", "expression")}

    bench.tables.pictures = [Path(f"{i}.png") for i in range(2047)]
    sample = embedding_sample(None, bench.tables, Encoder(), bad={0, 5})["identity"]
    numbers = sample.flatten().tolist()
    assert len(numbers) == 1024 == len(set(numbers)) and max(asked) <= 8
    assert numbers[0] == 1 and numbers[-1] == 2046 and 5 not in numbers and max(np.diff(numbers)) <= 3


def test_the_cache_command_does_what_training_would(workshop, tmp_path, monkeypatch, capsys):
    changes = {"dataset_params.cache_dir": str(tmp_path / "cache"), "train_params.num_epochs": 1}
    config = write_config(tmp_path / "run.yaml", workshop, **changes)
    monkeypatch.setattr(sys, "argv", ["cache", "--config", str(config), "--cpu"])
    runpy.run_module("modules.mef.cache", run_name="__main__")
    assert "8 latents, 3 text, 8 faces; 0 portraits are left out" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/*")}
    train(config, log_dir=str(tmp_path / "log"))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/*")}
    picture = workshop / "portraits" / "p0_0.png"
    os.utime(picture)  # a changed file is another data set
    assert Cache(load_mef_config(config), read_tables(load_mef_config(config))[0]).missing()


def key(config: dict) -> str:
    config = mef_config_from_dict(config)
    return Cache(config, read_tables(config)[0]).place.rpartition("/")[2]


def test_a_cache_is_of_its_files_by_their_places_in_the_data_set(workshop, tmp_path):
    """Whoever exchanges two folders whose pictures are called alike has other rows under the same metadata."""
    root = tmp_path / "portraits"
    lines = []
    for person in ("anna", "bert"):
        (root / person).mkdir(parents=True)
        shutil.copy2(workshop / "portraits" / "p0_0.png", root / person / "1.png")  # of one size and time
        lines.append(json.dumps({"file_name": f"{person}/1.png", "text": "a hat", "identity": person}))
    (root / "metadata.jsonl").write_text("\n".join(lines))
    config = values(workshop, **{"dataset_params.root_dir": str(root)})
    before = key(config)
    for old, new in (("anna", "zoe"), ("zoe", "anna")):
        (root / old).rename(root / new)
        text = (root / "metadata.jsonl").read_text()
        (root / "metadata.jsonl").write_text(text.replace(f"{old}/", f"{new}/"))
        assert (key(config) == before) == (new == "anna")  # bert's row is now before zoe's
    config["dataset_params"]["root_dir"] = str(root.rename(tmp_path / "moved"))
    assert key(config) == before  # the data set as a whole may move


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer/tokenizer_config.json",
        "vae/weights.bin",
        "text_encoder/config.json",
        "face.onnx",
        "clip/model.bin",
        "sid.pth.tar",
    ],
)
def test_a_cache_is_of_every_file_it_was_computed_with(workshop, tmp_path, name):
    base = shutil.copytree(workshop / "sd15", tmp_path / "sd15")
    (base / "vae" / "weights.bin").touch()
    (base / "clip").mkdir()
    for path in ("face.onnx", "clip/model.bin"):
        (base / path).touch()
    shutil.copy(workshop / "sid.pth.tar", base)
    changes = {"base_params": {"path": str(base)}, "sid_params.checkpoint": str(base / "sid.pth.tar")}
    changes["compound_params"] = {"clip": str(base / "clip"), "face_recognition": str(base / "face.onnx")}
    config = values(workshop, **{f"model_params.{path}": value for path, value in changes.items()})
    before = key(config)
    (base / "unet" / "more.txt").touch()
    assert key(config) == before  # of nothing that does not matter
    os.utime(base / name, ns=(1, 1))
    assert key(config) == before  # of what is in them: another machine's copy is another file
    (base / name).write_bytes((base / name).read_bytes() + b" ")
    assert key(config) != before


def test_what_could_not_be_read_for_a_moment_is_read_the_next_time(workshop, tmp_path, monkeypatch):
    config = mef_config_from_dict(values(workshop, **{"dataset_params.cache_dir": str(tmp_path)}))
    tables, accelerator = read_tables(config)[0], Accelerator(cpu=True)
    frozen = build_frozen(config, cpu=True)
    read, away = media.read_image, tables.pictures[2]

    def failing(path):
        if Path(path) == away:
            raise UserError(f"{path}: Stale file handle")
        return read(path)

    def built() -> tuple[Cache, PortraitDataset]:
        cache = build_cache(config, tables, frozen, accelerator)
        return cache, PortraitDataset(tables, frozen.latent_shape, 1000, config.train_params, cache)

    with monkeypatch.context() as patched:
        patched.setattr(media, "read_image", failing)
        for _ in range(2):
            cache, dataset = built()
            assert dataset.left_out == {str(away): "Stale file handle"} and len(dataset.portraits) == 7
    cache, dataset = built()
    assert not dataset.left_out and not cache.incomplete()
    whole = Bench(workshop)
    for table in ("latents", "faces"):
        for i in range(8):
            row, expected = cache.row(table, i), whole.cache.row(table, i)
            assert all(torch.allclose(row[name], expected[name], atol=1e-5) for name in expected)
    monkeypatch.setattr(cache, "missing", lambda: [("faces", 0)])
    monkeypatch.setattr("modules.mef.train.Cache", lambda *_: cache)
    with pytest.raises(UserError, match="set dataset_params.cache_dir to a folder that all machines share"):
        built()


def test_the_latents_are_left_on_the_disk_until_a_step_wants_them(workshop, monkeypatch):
    bench = Bench(workshop)
    read = places.read
    asked = []
    monkeypatch.setattr(places, "read", lambda place, *part: asked.append(place) or read(place, *part))
    assert not bench.cache.incomplete() and not bench.cache.unreadable("latents")
    assert asked and all(place.endswith(".index.json") for place in asked)


def test_a_damaged_part_of_the_cache_is_one_line(workshop, tmp_path):
    bench = Bench(workshop, **{"dataset_params.cache_dir": str(tmp_path)})
    path = Path(bench.cache.place) / "faces-00000.tar"
    path.write_bytes(path.read_bytes()[:100])
    again = Cache(bench.config, bench.tables)
    with pytest.raises(UserError, match="faces-00000.tar: not a readable part of the cache.*delete it"):
        again.incomplete()


def test_another_choice_of_layers_is_refused(workshop):
    trained, other = Bench(workshop), Bench(workshop, **{"model_params.inject": "all"})
    with pytest.raises(UserError, match="x.pth: its adapters are in other layers than those of model_params.inject"):
        other.adapters.load(trained.adapters.state(), "x.pth")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "line 1: expected an object"),
        ('{"file_name": "a.png"}', "line 1: text: expected text, found None"),
        ('{"file_name": "a.png", "text": "x"}', "none of its 1 portraits exists"),
    ],
)
def test_bad_metadata_is_one_line(tmp_path, line, message):
    (tmp_path / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match="metadata.jsonl") as error:
        read_portraits(tmp_path)
    assert message in str(error.value)


def test_captions_hold_any_character(workshop, tmp_path):
    picture = next((workshop / "portraits").glob("*.png"))
    lines = [{"file_name": str(picture), "text": text} for text in ("red\u2028hat", "blue\x85hat", "grün")]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\r\n" for line in lines)
    (tmp_path / "metadata.jsonl").write_bytes(text.encode("utf-8-sig"))
    portraits, bad = read_portraits(tmp_path)
    assert not bad and [portrait.text for portrait in portraits] == [line["text"] for line in lines]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_params.root_dir": "nowhere"}, "nowhere: no such folder of portraits"),
        ({"train_params.learning_rate": 1}, "train_params.learning_rate"),
        ({"model_params.base_params.path": "nowhere"}, "nowhere: no Stable Diffusion base can be loaded"),
        ({"model_params.inject": ["left"]}, "no cross-attention in a block 'left'"),
        ({"train_params.precision": "fp16"}, "train_params.precision: fp16 does not work on this device"),
        ({"train_params.warmup_steps": 1000}, "warmup_steps: 1000 is not less than the run's"),
        ({"train_params.gradient_accumulation": 3}, "gradient_accumulation: 3 does not divide"),
        (
            {"train_params.loss_weights": {"expression": 0.1}, "dataset_params.crop_faces": True},
            "train_params.loss_weights.expression: expected 0 where dataset_params.crop_faces is true",
        ),
    ],
)
def test_a_bad_configuration_is_one_line_and_leaves_nothing(workshop, tmp_path, changes, message):
    config = write_config(tmp_path / "run.yaml", workshop, **changes)
    with pytest.raises(UserError) as error:
        train(config, log_dir=str(tmp_path / "log"))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "log").exists()


def test_a_configuration_of_sid_is_named_for_what_it_is():
    with pytest.raises(UserError, match="configures SID, not MEF: train it with train_sid.py"):
        load_mef_config(ROOT / "config" / "sid-64.yaml")


# ----------------------------------------------------------------------------------------------------------------- runs


def command(config: Path, log_dir: Path, *extra: str) -> list[str]:
    return [str(ROOT / "train_mef.py"), "--config", str(config), "--log_dir", str(log_dir), "--cpu", *extra]


LENGTH = {"train_params.num_repeats": 10}  # steps to be killed among


@pytest.fixture(scope="module")
def uninterrupted(workshop, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return train(write_config(folder / "tiny.yaml", workshop, **LENGTH), log_dir=str(folder / "log"))


def test_a_run_writes_what_it_should(uninterrupted, workshop):
    names = {path.name for path in uninterrupted.iterdir() if not path.name.startswith("events")}
    numbered = {f"{epoch:08d}-checkpoint.pth.tar" for epoch in range(2)}
    assert names == numbered | {"adapters", "log.jsonl", "log.txt", "tiny.yaml", "train-vis"}
    grid = media.read_image(uninterrupted / "train-vis" / "00000001-rec.png")
    assert grid.shape == (3 * 32, 3 * 32, 3)  # two people by two expressions, with the margin; one prompt
    saved = load_checkpoint(uninterrupted / "00000001-checkpoint.pth.tar")
    adapter = load_checkpoint(uninterrupted / "adapters" / "identity_adapter.safetensors")
    assert_identical(saved["ema"]["identity_adapter"], adapter)  # the averaged weights are the ones to use
    assert not torch.equal(
        adapter["image_proj"]["proj.0.weight"], saved["identity_adapter"]["image_proj"]["proj.0.weight"]
    )


def test_a_new_run_starts_from_a_folder_of_adapters(uninterrupted, workshop, tmp_path, capsys):
    start = uninterrupted / "adapters"
    changes = {"train_params.lr": 0, "train_params.num_epochs": 1, "train_params.ema_decay": None}
    config = write_config(tmp_path / "tiny.yaml", workshop, **changes)
    folder = train(config, checkpoint=str(start), finetune=True, log_dir=tmp_path / "log")
    for name in ADAPTER_FILES:
        assert_identical(load_checkpoint(start / name), load_checkpoint(folder / "adapters" / name))
    assert "note:" not in capsys.readouterr().out
    sid = start / SID_FILE
    entries = load_checkpoint(sid)
    next(iter(entries["identity"].values())).add_(1)
    other = tmp_path / "other"
    shutil.copytree(start, other)
    save_checkpoint(entries, other / SID_FILE)
    train(config, checkpoint=str(other), finetune=True, log_dir=str(tmp_path / "log"))
    assert f"note: {other} was trained on other embeddings" in capsys.readouterr().out
    (other / SID_FILE).unlink()
    train(config, checkpoint=str(other), finetune=True, log_dir=str(tmp_path / "log"))
    assert f"cannot check whether {other} was trained on this configuration's embeddings: " in capsys.readouterr().out
    with pytest.raises(UserError, match="not a folder of DeepExpr adapters"):
        train(config, checkpoint=str(uninterrupted), finetune=True, log_dir=str(tmp_path / "log"))


def test_the_average_of_a_new_run_begins_anew(uninterrupted, workshop, tmp_path, monkeypatch):
    """Else it would be of the old weights for as long as the average remembers."""
    config = write_config(tmp_path / "tiny.yaml", workshop)
    checkpoint = uninterrupted / "00000001-checkpoint.pth.tar"
    found = load_checkpoint(checkpoint)
    assert found["ema_updates"] > 0
    started = []
    monkeypatch.setattr(Trainer, "fit", lambda trainer, folder: started.append(trainer))
    train(config, checkpoint=str(checkpoint), finetune=True, log_dir=str(tmp_path / "log"))
    (trainer,) = started
    assert trainer.average.updates == 0
    for adapters in (trainer.model, trainer.averaged):
        assert_identical(adapters.state(), found["ema"])


def test_adapters_that_a_killed_run_did_not_write_are_written_when_it_is_continued(uninterrupted, workshop, tmp_path):
    folder = tmp_path / "log" / "tiny 1"
    shutil.copytree(uninterrupted, folder, ignore=shutil.ignore_patterns("adapters"))
    train(folder / "tiny.yaml", log_dir=str(tmp_path / "log"), resume="auto")
    for name in ADAPTER_FILES:
        assert_identical(
            load_checkpoint(uninterrupted / "adapters" / name), load_checkpoint(folder / "adapters" / name)
        )


def test_killed_and_stopped_it_ends_bit_identical(workshop, uninterrupted, tmp_path):
    """kill -9 while checkpoints are written, then SIGTERM, then to the end: every weight and average is the same."""
    config = write_config(tmp_path / "tiny.yaml", workshop, **LENGTH | {"train_params.checkpoint_minutes": 1e-6})
    for number in (signal.SIGKILL, signal.SIGTERM):
        fresh = number == signal.SIGTERM  # a run of another Python, whose sets and hashes are others, goes on
        run = scripts.start(*command(config, tmp_path / "log", "--resume", "auto"), fresh=fresh)
        before = newest(tmp_path / "log")
        while newest(tmp_path / "log") == before:  # at least one more step is done and saved
            assert run.poll() is None, run.communicate()
            time.sleep(0.01)
        os.kill(run.pid, number)
        _, stderr = run.communicate(timeout=60)
        assert run.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert "continue with --checkpoint" in stderr
    latest = next((tmp_path / "log").glob("*/latest-checkpoint.pth.tar"))
    assert 0 < load_checkpoint(latest)["training"]["step"] < 40
    folder = train(config, log_dir=str(tmp_path / "log"), resume="auto")
    name = "00000001-checkpoint.pth.tar"
    expected, actual = load_checkpoint(uninterrupted / name), load_checkpoint(folder / name)
    for checkpoint in (expected, actual):
        checkpoint.pop("mef")  # the configurations differ in how often to save
    assert_identical(expected, actual)
    assert (folder / "log.txt").read_text() == (uninterrupted / "log.txt").read_text()


PARAMETERS = """
import torch
from modules.config.files import load_mef_config
from modules.mef.train import train_mef
from modules.training.command import Run
from modules.training.trainer import Trainer

def fit(trainer, folder):
    trainer.loader.batch_sampler.set_position(0)
    for batch in trainer.loader:
        trainer.step(batch)
    processes = trainer.accelerator
    torch.save(trainer.state(), f"{out}-{{processes.num_processes}}-{{processes.process_index}}.pth")

before, Trainer.fit = Trainer.fit, fit
try:
    train_mef(load_mef_config({config!r}), Run({config!r}, log_dir={out!r} + "-log", cpu=True))
finally:
    Trainer.fit = before
"""


@pytest.mark.parametrize("cached", [True, False])
def test_two_processes_share_the_work_and_step_like_one(workshop, tmp_path, cached):
    """An epoch over gloo, in parts: parameters equal over the processes, and near those of one process."""
    changes = {"train_params.num_repeats": 1, "train_params.gradient_accumulation": 2}
    changes["dataset_params.cache_dir"] = str(tmp_path / "cache") if cached else None
    config = write_config(tmp_path / "tiny.yaml", workshop, **changes)
    script = tmp_path / "parameters.py"
    script.write_text(PARAMETERS.format(config=str(config), out=str(tmp_path / "p")))
    scripts.run_together(2, script)
    exec(compile(script.read_text(), str(script), "exec"), {})  # one process: this one
    one, two, other = (torch.load(tmp_path / f"p-{name}.pth", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    assert_identical(two, other)
    for name in ("identity_adapter", "expression_adapter"):
        for key, value in one[name]["ip_adapter"].items():
            # Adam divides by the root of tiny squares: rounding shows where gradients are nearly nothing
            assert float((two[name]["ip_adapter"][key] - value).abs().max()) < 0.1 * 1e-2, key


def test_bf16_trains_with_float32_adapters(workshop):
    bench = {name: Bench(workshop, **{"train_params.precision": name}) for name in ("fp32", "bf16")}
    batches = {name: b.batch([0, 1, 2, 3]) for name, b in bench.items()}
    torch.manual_seed(0)
    state = bench["fp32"].adapters.state()
    bench["bf16"].adapters.load(state, "fp32")
    exact = bench["fp32"].losses(batches["fp32"])["diffusion"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = bench["bf16"].losses(batches["bf16"])["diffusion"]
        latents = torch.randn(2, *bench["bf16"].frozen.latent_shape)
        decoded = {name: b.frozen.decode(latents) for name, b in bench.items()}  # by autocast, whatever the weights are
    assert rough == pytest.approx(exact, rel=0.05)
    assert torch.equal(decoded["fp32"], decoded["bf16"]) and decoded["bf16"].dtype == torch.float32
    exactly = bench["fp32"].frozen.decode(latents)
    assert 0 < float((decoded["bf16"] - exactly).abs().max()) < 0.05  # 8 bits of mantissa through a few layers
    trained = bench["bf16"]
    assert {p.dtype for p in trained.adapters.parameters()} == {torch.float32}
    assert trained.frozen.base.unet.conv_in.weight.dtype == torch.bfloat16
    portraits, params = trained.dataset.portraits, trained.config.validation_params
    validation = Validation(params, trained.frozen, portraits, trained.adapters)
    with torch.autocast("cpu", torch.bfloat16):
        assert validation.grid_of(trained.adapters).dtype == torch.uint8
    assert bench["fp32"].cache.place != bench["bf16"].cache.place
