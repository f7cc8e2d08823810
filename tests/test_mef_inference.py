"""Inference.py --prompt as users run it: files in, files out, one line for what cannot be."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tiny_base
from media_files import images_of
from tiny_mef import write_config, write_workshop

import Inference
from modules import faces, media
from modules.config.files import load_mef_config
from modules.data.astronaut import moving_face
from modules.errors import run_script
from modules.mef import export
from modules.mef.base import spelt_words
from modules.mef.inference import Portraitist, load_pipeline
from modules.mef.options import PortraitOptions
from modules.mef.small_base.networks import build_tokenizer
from modules.mef.train import train_mef
from modules.training.command import Run


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """A trained run for each kind of base, a source and drivers."""
    folder = write_workshop(tmp_path_factory.mktemp("workshop"))
    for kind in tiny_base.KINDS:
        config = write_config(folder / f"{kind}.yaml", folder, kind, **{"train_params.num_epochs": 1})
        train_mef(load_mef_config(config), Run(str(config), log_dir=str(folder / "log"), cpu=True)).rename(
            folder / f"run-{kind}"
        )
    media.write_image(folder / "source.png", moving_face(0, 1, 64)[0])
    media.write_image(folder / "smile.png", moving_face(1, 1, 64)[0])
    with media.VideoWriter(folder / "driving.mp4", 64, 64, Fraction(25)) as writer:
        faces = moving_face(1, 3, 64)
        for i, image in enumerate([faces[0], faces[0], faces[1], faces[2]]):
            writer.write(image, i / 25)
    return folder


@pytest.fixture
def run(workshop, monkeypatch, tmp_path):
    """Calls the script in an empty folder; named options have defaults, None leaves one out."""
    monkeypatch.chdir(tmp_path)

    def call(*options: str, **replaced: str | None) -> None:
        named = {
            "prompt": "a red hat",
            "checkpoint": str(workshop / "run-sd15" / "adapters"),
            "source_image": str(workshop / "source.png"),
            "reference_image": str(workshop / "smile.png"),
            "steps": "2",
        } | replaced
        words = [part for name, value in named.items() if value is not None for part in (f"--{name}", value)]
        monkeypatch.setattr(sys, "argv", ["Inference.py", "--cpu", *words, *options])
        run_script(Inference.main)

    return call


def test_one_portrait_and_several(run):
    run()
    alone = media.read_image("result.png")
    assert alone.shape == (32, 32, 3)
    run(num_images="3")
    several = [media.read_image(f"result-{i}.png") for i in (1, 2, 3)]
    assert np.abs(several[0].astype(int) - alone).max() <= 1  # the same noise, in a larger batch
    assert not np.array_equal(several[0], several[1])
    run(seed="1", result_image="one.png")
    assert np.abs(media.read_image("one.png").astype(int) - several[1]).max() <= 1  # seeds count up


def test_the_grid_shows_what_went_in(run, workshop):
    run("--grid", num_images="2", result_image="grid.jpg")
    grid = media.read_image("grid.jpg")
    assert grid.shape == (32, 4 * 32, 3)
    source = media.fit(media.read_image(workshop / "source.png"), 32, 32)
    assert np.abs(grid[:, :32].astype(int) - source).mean() < 5


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "euler", "lcm"])
def test_schedulers(run, scheduler):
    run(scheduler=scheduler, num_images="1")
    assert media.read_image("result.png").std() > 0


@pytest.mark.parametrize("kind", tiny_base.KINDS)
def test_a_folder_of_adapters_draws_like_the_checkpoint_it_was_written_with(run, workshop, kind):
    folder = workshop / f"run-{kind}"
    run(checkpoint=str(folder / "adapters"), result_image="a.png")
    run(checkpoint=str(folder / "00000000-checkpoint.pth.tar"), result_image="b.png")
    assert np.array_equal(media.read_image("a.png"), media.read_image("b.png"))


def test_a_video_gives_a_portrait_a_frame_from_one_noise(run, workshop):
    run(reference_image=None, driving_video=str(workshop / "driving.mp4"))
    info, frames = media.probe_video("result.mp4"), images_of("result.mp4")
    assert len(frames) == 4 and info.frame_rate == 25
    first, second = frames[0].astype(int), frames[1].astype(int)
    assert np.abs(first - second).mean() < 3  # the driver stands still, and so does the portrait: one noise
    run("--grid", driving_video=str(workshop / "driving.mp4"))
    assert images_of("result.mp4")[0].shape == (32, 96, 3)
    assert Path("result.png").exists()  # with both drivers both results are written


class Detector:
    """Finds a face in the middle of everything, and counts how often it was asked."""

    stride = 1

    def __init__(self):
        self.asked = 0

    def __call__(self, image, min_size=None):
        self.asked += 1
        height, width = image.shape[:2]
        return [faces.Detection(faces.Box.square(width / 2, height / 2, height / 3), 1.0)]


@pytest.fixture
def detectors(monkeypatch) -> dict[tuple, Detector]:
    """Those that were loaded, by the arguments they were loaded with."""
    loaded: dict[tuple, Detector] = {}
    monkeypatch.setattr(faces, "load_detector", lambda *how: loaded.setdefault(how, Detector()))
    return loaded


def test_adapters_that_learnt_from_cut_out_faces_are_shown_cut_out_faces(run, workshop, tmp_path, detectors):
    changes = {"dataset_params.crop_faces": True, "train_params.num_epochs": 1}
    config = write_config(tmp_path / "crop.yaml", workshop, **changes)
    trained = train_mef(load_mef_config(config), Run(str(config), log_dir=str(tmp_path / "log"), cpu=True))
    for i, name in enumerate(("adapters", "00000000-checkpoint.pth.tar")):
        checkpoint = str(trained / name)
        for detector in detectors.values():
            detector.asked = 0
        run(checkpoint=checkpoint, result_image=f"{i}.png")
        assert set(detectors) == {("auto", True)} and detectors["auto", True].asked == 2  # source and driver
        run("--crop", checkpoint=checkpoint, result_image=f"crop{i}.png")
        assert np.array_equal(media.read_image(f"{i}.png"), media.read_image(f"crop{i}.png"))
        run("--detector", "face-alignment", checkpoint=checkpoint)
        assert detectors.pop(("face-alignment", True)).asked == 2  # whichever is asked for
        detectors["auto", True].asked = 0
        run(checkpoint=checkpoint, reference_image=None, driving_video=str(workshop / "driving.mp4"))
        assert detectors["auto", True].asked > 1  # the source, and frames of the driver
    load_pipeline(str(trained / "adapters"), cpu=True).save_pretrained(tmp_path / "again")
    assert load_pipeline(str(tmp_path / "again"), cpu=True).embedder.crop is True
    detectors.clear()
    run("--detector", "face-alignment")
    assert not detectors  # those that learnt from framed pictures are given pictures as they are
    run("--crop")
    assert set(detectors) == {("auto", True)}  # unless asked for; and --cpu keeps the detector there as well


def test_the_person_alone_and_the_expression_alone(run):
    for name in ("source_image", "reference_image"):
        run(**{name: None}, result_image=f"{name}.png")
    assert not np.array_equal(media.read_image("source_image.png"), media.read_image("reference_image.png"))


def test_an_expression_by_name_is_drawn(run):
    for words in ("joy", "fear"):
        run("--expression", words, reference_image=None, result_image=f"{words}.png")
    assert not np.array_equal(media.read_image("joy.png"), media.read_image("fear.png"))
    run("--expression", "joy", reference_image=None, source_image=None)  # the prompt says who


def test_words_that_a_small_bases_vocabulary_lacks_are_named(run, capfd):
    run(prompt="a RED zeppelin, red", negative_prompt="a hat")  # this base's vocabulary is letters
    assert "vocabulary lacks red, zeppelin, hat: it knows" in capfd.readouterr().err
    run(prompt="a b, c")
    assert "vocabulary" not in capfd.readouterr().err


def test_how_much_of_a_long_prompt_is_read_is_one_line(run, capfd):
    run()
    assert "tokens" not in capfd.readouterr().err
    run(negative_prompt="a b c d " * 20, prompt="a red hat " * 5)
    lines = [line for line in capfd.readouterr().err.splitlines() if "token" in line.lower()]
    assert lines == [
        "--prompt: the base reads its first 30 tokens of 35, up to '...ed hat a red hat a red hat a r'",
        "--negative_prompt: the base reads its first 30 tokens of 80, up to '... d a b c d a b c d a b c d a b'",
    ]


def test_a_large_vocabulary_may_spell_words_it_knows():
    tokenizer = build_tokenizer(["a red hat"])
    assert spelt_words("a red-hot hat, 3 times", tokenizer) == ["hot", "times"]
    tokenizer.add_tokens([f"word{i}" for i in range(10_000)])
    assert spelt_words("a red-hot hat, 3 times", tokenizer) == []


@pytest.mark.parametrize("options", [[], ["--name_sid"]])
def test_exported_adapters_draw_what_their_checkpoint_draws(workshop, tmp_path, monkeypatch, options):
    (checkpoint,) = (workshop / "run-sd15").glob("0*-checkpoint.pth.tar")
    command = ["export", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out"), *options]
    monkeypatch.setattr(sys, "argv", command)
    export.main()
    assert (tmp_path / "out" / "sid_encoders.safetensors").exists() == (not options)
    pictures = []
    for source in (checkpoint, tmp_path / "out"):
        options = PortraitOptions("a red hat", steps=2)
        artist = Portraitist(load_pipeline(str(source), cpu=True), options, str(workshop / "source.png"))
        (picture,) = artist.draw(None)
        pictures.append(picture.astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 2  # grey levels: half precision


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": " ", "checkpoint": "nowhere"}, "the prompt is empty"),
        ({"base": "nowhere"}, "nowhere: no Stable Diffusion base can be loaded"),
        ({"base": "none.safetensors"}, "none.safetensors: no such file"),
        ({"base": "SHOP/sd21"}, "made for bases with cross-attention 24 wide; this base's is 32 wide"),
        ({"checkpoint": "SHOP/portraits"}, "not a folder of DeepExpr adapters"),
        ({"checkpoint": "SHOP/sid.pth.tar"}, "not a checkpoint of MEF"),
        ({"checkpoint": "no such folder/adapters"}, "no such folder/adapters: no such folder of adapters"),
        ({"source_image": "SHOP/none.png"}, "none.png: no such file"),
        ({"source_image": "SHOP/sid.yaml"}, "sid.yaml: is not a picture"),
        ({"source_image": None, "reference_image": None}, "is needed"),
        ({"num_images": "0", "checkpoint": "nowhere"}, "--num_images: expected 1 or more"),
        ({"steps": "1001"}, "--steps: 1001 are too many for this scheduler"),
        ({"steps": "1000", "scheduler": "ddim"}, "--steps: 1000 are too many for this scheduler"),
        ({"steps": "60", "scheduler": "lcm"}, "--steps: 60 are too many for this scheduler"),
        ({"seed": str(2**64)}, "--seed: expected 18446744073709551615 or less"),
        ({"guidance_scale": "inf"}, "--guidance_scale: expected a finite number"),
        ({"identity_scale": "nan"}, "--identity_scale: expected a finite number"),
        ({"strength": "1", "motion": "keypoints"}, "--motion animates a photograph"),
        ({"drive": "both"}, "--drive animates a photograph"),
        ({"strength": "1"}, "--strength animates a photograph"),
        ({"config": "SHOP/sid.yaml"}, "--config animates a photograph"),
        ({"result_image": "result.bmp", "checkpoint": "nowhere"}, "result.bmp: cannot write a picture"),
        (
            {"reference_image": None, "driving_video": "SHOP/driving.mp4", "num_images": "2", "checkpoint": "nowhere"},
            "one portrait per frame",
        ),
        ({"result_video": "other.mp4"}, "--result_video: there is no driving video"),
        (
            {"reference_image": None, "driving_video": "SHOP/driving.mp4", "result_image": "other.png"},
            "--result_image: there is no driving picture",
        ),
        ({"result_image": "SHOP/source.png"}, "is an input and would be overwritten"),
    ],
)
def test_bad_input_is_one_line_with_status_2(run, workshop, capfd, changes, message):
    changes = {key: value and value.replace("SHOP", str(workshop)) for key, value in changes.items()}
    with pytest.raises(SystemExit) as stop:
        run(**changes)
    assert stop.value.code == 2
    last = capfd.readouterr().err.strip().splitlines()
    assert len(last) == 1 and message in last[0]
    assert not list(Path.cwd().iterdir())
