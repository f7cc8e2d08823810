"""Results tell that a machine made them: metadata in every kind of file, and a mark that outlives re-encoding."""

from __future__ import annotations

import io
import shlex
import tomllib
from pathlib import Path

import av
import numpy as np
import pytest
import scripts
from media_files import PHOTO, images_of, scene
from PIL import Image
from skimage.data import coffee

from modules import media
from modules.mark import Marking, label, provenance, spread
from modules.media.xmp import read_xmp

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "SID_Checkpoints/sid-adv-cpk.pth"
MADE = provenance.provenance("compositeWithTrainedAlgorithmicMedia", [WEIGHTS, "some/hub-id"])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(((a.astype(float) - b) ** 2).mean() / 255**2 + 1e-12))


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.mp4", "a.mov", "a.mkv", "a.webm", "a.gif"])
def test_every_file_says_what_made_it_and_shows_what_it_showed(tmp_path, name):
    path, plain = tmp_path / name, tmp_path / f"plain-{name}"
    images = [scene(0)] if media.names_image(path) else [scene(i) for i in range(4)]
    for file, packet in ((path, MADE.packet()), (plain, None)):
        if media.names_image(file):
            media.write_image(file, images[0], packet)
            continue
        with media.VideoWriter(file, 128, 96, 25, xmp=packet) as writer:
            for i, image in enumerate(images):
                writer.write(image, i / 25)
    assert provenance.read(read_xmp(path)) == MADE
    assert read_xmp(plain) is None
    read = [media.read_image(file) if media.names_image(file) else np.stack(images_of(file)) for file in (path, plain)]
    assert (read[0] == read[1]).all()


def test_the_metadata_names_version_weights_and_kind_in_iptcs_terms(tmp_path):
    media.write_image(tmp_path / "a.png", PHOTO, MADE.packet())
    with Image.open(tmp_path / "a.png") as image:
        packet = image.info["xmp"].decode()  # Pillow finds it where PNG's XMP belongs
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f'AISystemVersionUsed="{project["version"]}; sid-adv-cpk.pth sha256:' in packet and "some/hub-id" in packet
    assert 'DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrained' in packet
    other = provenance.provenance("compositeSynthetic", [ROOT / "SID_Checkpoints/sid-rigged-256-cpk.pth"])
    assert other.version != MADE.version  # the hash is of the file
    element = "<Iptc4xmpExt:DigitalSourceType>http://x/trainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>"
    assert provenance.read(element) == provenance.Provenance("trainedAlgorithmicMedia", "", "unknown")
    assert provenance.read("<x:xmpmeta/>") is None


@pytest.mark.parametrize("picture", [PHOTO, coffee(), PHOTO[:256, 100:356]], ids=["512", "600x400", "256"])
def test_the_mark_is_hardly_seen_and_outlives_jpeg_and_resizing(picture):
    marked = spread.add(picture)
    assert psnr(marked, picture) > 44  # dB
    assert spread.score([picture]) < 3  # unmarked pictures have a standard deviation of 1
    smaller = np.asarray(Image.fromarray(marked).resize((picture.shape[1] * 2 // 3, picture.shape[0] * 2 // 3)))
    for changed in (marked, jpeg(marked, 80), jpeg(smaller, 80)):
        assert spread.score([changed]) > spread.THRESHOLD


def test_the_mark_of_a_video_outlives_h264(tmp_path):
    frames = [scene(i, 256, 256) for i in range(20)]
    for name, made in (("marked", [spread.add(frame) for frame in frames]), ("plain", frames)):
        with media.VideoWriter(tmp_path / f"{name}.mp4", 256, 256, 25, crf=23) as writer:
            for i, frame in enumerate(made):
                writer.write(frame, i / 25)
    assert spread.score(images_of(tmp_path / "marked.mp4")) > spread.THRESHOLD
    assert spread.score(images_of(tmp_path / "plain.mp4")) < 3


def test_pictures_without_content_are_not_taken_for_marked():
    for value in (0, 255):
        assert spread.score([np.full((64, 64, 3), value, np.uint8)]) < spread.THRESHOLD
    assert spread.score([np.zeros((1, 1, 3), np.uint8)]) < spread.THRESHOLD
    # marked all the same, where it is neither black nor white, which would clip half of it
    assert spread.score([spread.add(np.full((256, 256, 3), 90, np.uint8))]) > spread.THRESHOLD


@pytest.mark.parametrize("shape", [(512, 512), (40, 90), (16, 16), (3, 200)])
def test_the_label_lies_in_the_corner_and_nowhere_else(shape):
    picture = np.full((*shape, 3), 128, np.uint8)
    changed = (label.add(picture) != picture).any(axis=2)
    assert changed[-1, -1] and changed.mean() <= 1
    if min(shape) > 100:
        assert changed.mean() < 0.03 and not changed[: shape[0] * 9 // 10].any()


def test_a_visible_mark_is_an_invisible_one_too():
    for watermark, is_found in (("visible", True), ("invisible", True), ("none", False)):
        made = Marking(watermark, MADE).put(PHOTO)
        assert (spread.score([made]) > spread.THRESHOLD) == is_found
        assert (made[-10:, -10:].mean() < 0.8 * PHOTO[-10:, -10:].mean()) == (watermark == "visible")


def test_results_are_marked_and_the_command_tells(tmp_path):
    driver = shlex.quote(str(ROOT / "Inputs/driving static images/happiness.png"))
    for watermark in ("invisible", "none"):
        line = (
            f"{ROOT}/Inference.py --cpu --driving_video {driver} --result_image {watermark}.png --watermark {watermark}"
        )
        result = scripts.run(*shlex.split(line), cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    media.write_image(tmp_path / "photo.png", PHOTO)
    told = scripts.run("-m", "modules.mark", "invisible.png", "none.png", "photo.png", cwd=tmp_path)
    assert told.returncode == 1  # one of them has nothing
    first, second, third = told.stdout.split(".png: ")[1:]
    assert "sid-rigged-256-cpk.pth" in first and "mark: found" in first
    assert "compositeWithTrainedAlgorithmicMedia" in second and "mark: not found" in second
    assert third.startswith("no mark found, which proves nothing\n  metadata: none")
    wrong = scripts.run("-m", "modules.mark", "nothing.png", cwd=tmp_path)
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: nothing.png")


def test_other_programs_read_marked_videos(tmp_path):
    with media.VideoWriter(tmp_path / "a.mp4", 128, 96, 25, xmp=MADE.packet()) as writer:
        writer.write(scene(0), 0)
    with av.open(str(tmp_path / "a.mp4"), options={"export_xmp": "1"}) as file:
        assert provenance.read(file.metadata["xmp"]) == MADE
