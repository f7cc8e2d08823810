"""Pictures go in and out unharmed, from files and from Python."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from media_files import PHOTO, scene
from PIL import Image

from modules.errors import UserError
from modules.media import (
    as_image,
    fit,
    read_image,
    resize,
    write_image,
)


def test_png_is_exact_and_jpg_is_close(tmp_path):
    write_image(tmp_path / "new" / "a.png", PHOTO)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), PHOTO)
    write_image(tmp_path / "a.jpg", PHOTO)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(float) - PHOTO).mean() < 2  # quality 95
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.jpg", "new"]
    with pytest.raises(UserError, match=r"use \.png or \.jpg"):
        write_image(tmp_path / "a.bmp2", PHOTO)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(scene(0)).save(tmp_path / "a.png", exif=exif)
    upright = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), upright(scene(0)))


def test_transparency_lies_over_white(tmp_path):
    rgba = np.dstack([scene(0), np.full((96, 128), 255, np.uint8)])
    rgba[:48, :, 3] = 0
    rgba[48:60, :, 3] = 128
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    image = read_image(tmp_path / "rgba.png")
    assert (image[:48] == 255).all()
    np.testing.assert_array_equal(image[60:], scene(0)[60:])
    blend = scene(0)[48:60] * (128 / 255) + 255 * (127 / 255)
    np.testing.assert_allclose(image[48:60], blend, atol=1)  # rounding
    Image.fromarray(rgba).convert("LA").save(tmp_path / "la.png")
    assert (read_image(tmp_path / "la.png")[:48] == 255).all()
    palette = Image.fromarray(scene(0)).quantize(16)
    palette.save(tmp_path / "p.png", transparency=palette.getpixel((0, 0)))
    assert (read_image(tmp_path / "p.png")[0, 0] == 255).all()


def test_grey_sixteen_bit_and_cmyk_pictures_become_rgb(tmp_path):
    grey = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (4, 1))
    Image.fromarray(grey).save(tmp_path / "grey16.png")
    expected = np.repeat(np.round(grey / 257).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "grey16.png"), expected)
    Image.fromarray(grey).save(tmp_path / "grey16.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "grey16.tif"), expected)
    Image.fromarray(scene(0)).convert("L").save(tmp_path / "grey.jpg")
    assert read_image(tmp_path / "grey.jpg").shape == (96, 128, 3)
    Image.fromarray(scene(0)).convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(read_image(tmp_path / "bits.png"))) == {0, 255}
    Image.fromarray(scene(0)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "cmyk.jpg").astype(float) - scene(0)).mean() < 4  # JPEG


def test_sixteen_bit_colour_keeps_its_brightness(tmp_path):
    rgb = scene(0).astype(np.uint16) * 257
    with av.open(str(tmp_path / "rgb16.png"), "w", format="image2", options={"update": "1"}) as file:
        stream = file.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "rgb48be"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb48be")))
        file.mux(stream.encode(None))
    np.testing.assert_array_equal(read_image(tmp_path / "rgb16.png"), scene(0))


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    write_image(tmp_path / "cut.png", PHOTO)
    write_image(tmp_path / "cut.jpg", PHOTO)
    for name in ("cut.png", "cut.jpg"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20000])
    for name, match in (
        ("missing.png", "no such file"),
        ("text.png", "not a picture"),
        ("", "folder"),
        ("cut.png", "complete"),
        ("cut.jpg", "complete"),
    ):
        with pytest.raises(UserError, match=match) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_resize_and_fit_are_antialiased_unbiased_and_centred():
    assert resize(PHOTO, 512, 512) is PHOTO and fit(PHOTO, 512, 512) is PHOTO
    small = resize(PHOTO, 64, 80)
    assert small.shape == (64, 80, 3)
    assert np.abs(small.mean(axis=(0, 1)) - PHOTO.mean(axis=(0, 1))).max() < 0.5  # rounding and clipped overshoot
    checks = np.tile(np.indices((256, 256)).sum(0)[..., None] % 2 * 255, 3).astype(np.uint8)
    inner = resize(checks, 32, 32)[2:-2, 2:-2]
    assert inner.min() >= 124 and inner.max() <= 131  # one-pixel checks become grey, not a moire
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 200
    assert fit(wide, 50, 50)[:, 2:-2].min() >= 199  # the middle third, but for rounding and the filter's reach
    assert fit(PHOTO[:301, :200], 33, 57).shape == (33, 57, 3)


@pytest.mark.parametrize("side", [112, 176, 224])
@pytest.mark.parametrize("shape", [(225, 225), (4032, 3024), (3024, 4032)])
def test_a_box_that_rounding_puts_outside_the_picture_is_its_edge(tmp_path, side, shape):
    path = tmp_path / "photo.jpg"
    Image.fromarray(PHOTO).resize(shape[::-1]).save(path)
    picture = read_image(path)
    least = min(shape)
    top, left = (shape[0] - least) // 2, (shape[1] - least) // 2
    middle = np.ascontiguousarray(picture[top : top + least, left : left + least])
    error = np.abs(fit(picture, side, side).astype(int) - resize(middle, side, side))
    assert error.mean() < 0.5 and error.max() < 12  # pixels beside the box have their part in its edge


@pytest.mark.parametrize("mode", ["turned", "grey16", "alpha", "palette"])
def test_a_picture_given_to_python_is_what_its_file_is(tmp_path, mode):
    path = tmp_path / "picture.png"
    if mode == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(scene(0)).save(path, exif=exif)
    elif mode == "grey16":
        Image.fromarray(scene(0)[..., 0].astype(np.uint16) * 257).save(path)
    elif mode == "alpha":
        alpha = np.linspace(0, 255, 128).astype(np.uint8)[None, :, None].repeat(96, axis=0)
        Image.fromarray(np.concatenate([scene(0), alpha], axis=2)).save(path)
    else:
        palette = Image.fromarray(scene(0)).quantize(16)
        palette.save(path, transparency=3)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(as_image(picture), read_image(path))
        if mode != "palette" and mode != "turned":
            np.testing.assert_array_equal(as_image(np.array(picture)), read_image(path))
    np.testing.assert_array_equal(as_image(path), read_image(path))
    np.testing.assert_array_equal(as_image(str(path)), read_image(path))


def test_arrays_and_tensors_are_pictures_of_their_values():
    rgb = scene(0)
    grey = rgb[..., 0]
    wide = rgb.astype(np.uint16) * 257
    tensor = torch.from_numpy(rgb).permute(2, 0, 1) / 255
    for given in (rgb, wide, rgb / 255, (rgb / 255).astype(np.float32), rgb[:, ::-1][:, ::-1], tensor):
        np.testing.assert_array_equal(as_image(given), rgb)
    as_rgb = np.repeat(grey[..., None], 3, axis=2)
    for given in (grey, grey[..., None], grey / 255, grey.astype(np.uint16) * 257):
        np.testing.assert_array_equal(as_image(given), as_rgb)
    np.testing.assert_array_equal(as_image(grey > 99)[..., 0], (grey > 99) * 255)
    unseen = np.zeros((96, 128, 1))
    assert (as_image(np.concatenate([rgb / 255, unseen], axis=2)) == 255).all()
    assert as_image(tensor.requires_grad_().bfloat16()).shape == rgb.shape


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([scene(0)], "a list; give one path"),
        (None, "a NoneType"),
        (np.zeros((2, 8, 8, 3), np.uint8), "uint8 .2, 8, 8, 3."),
        (np.zeros((8, 8, 2), np.uint8), "uint8 .8, 8, 2."),
        (np.zeros((0, 8, 3), np.uint8), "uint8 .0, 8, 3."),
        (scene(0).astype(np.float32), "from .* to .*; floats go from 0 to 1"),
        (np.full((8, 8), np.nan), "from nan"),
        (scene(0).astype(np.int64), "type int64"),
        (torch.zeros(8, 8, 3), "torch.float32 .8, 8, 3."),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "torch.uint8"),
        ("missing.png", "missing.png: no such file"),
    ],
)
def test_what_is_no_picture_in_python_is_one_line(given, match):
    with pytest.raises(UserError, match=match) as caught:
        as_image(given, "identity_image")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 160
    assert str(caught.value).startswith(("identity_image: ", "missing.png: "))


def test_a_picture_cut_off_is_one_line_in_python_too(tmp_path):
    write_image(tmp_path / "cut.jpg", PHOTO)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:20000])
    with Image.open(tmp_path / "cut.jpg") as picture, pytest.raises(UserError, match="source: the picture cannot"):
        as_image(picture, "source")
