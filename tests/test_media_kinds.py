"""Kinds of files that people have: joined, transparent, in other colours, with sound that begins before the picture."""

from __future__ import annotations

import itertools
import struct
import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from media_files import PHOTO, encode, images_of, scene, sound_of, write_scenes
from PIL import Image, ImageCms
from test_crop_video import run_printed

from modules import faces
from modules.errors import UserError
from modules.faces import tracks
from modules.media import VideoWriter, as_image, lead_in, probe_video, read_frames, read_image, read_video


def ffmpeg(*arguments: str | Path) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def remux(source: Path, target: Path, *options: str) -> Path:
    """The same packets as the ffmpeg program writes them: in MPEG-TS, from 1.4 s on."""
    ffmpeg("-i", source, "-map", "0", "-c", "copy", *options, target)
    return target


# ---- files that were joined


def two_parts(folder: Path, suffix: str, codec: str, second: dict[str, str], sound: bool = True) -> list[Path]:
    """A video of 50 frames and one of 30, with sound as long as they are."""
    groups = {"g": "25", "bf": "2"}
    coding = ["-c:v", "mpeg2video", "-c:a", "mp2", "-ar", "48000"] if codec == "mpeg2video" else []
    parts = []
    for name, count, options in (("a", 50, groups), ("b", 30, groups | second)):
        path = encode(folder / f"{name}.mkv", count, options=options, sound=("aac", 0.0, count / 25) if sound else None)
        parts.append(remux(path, folder / f"{name}{suffix}", *coding))
    return parts


def join(path: Path, parts: list[Path]) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "second"),
    [
        (".ts", "libx264", {}),
        (".ts", "libx264", {"bf": "0"}),  # frames are not reordered alike in the two
        (".ts", "mpeg2video", {}),
        (".m2ts", "libx264", {}),
        (".mpg", "mpeg2video", {}),
    ],
)
@pytest.mark.parametrize("order", ["ab", "ba", "aba"])
def test_joined_files_play_through(tmp_path, suffix, codec, second, order):
    parts = two_parts(tmp_path, suffix, codec, second)
    chosen = [parts["ab".index(name)] for name in order]
    path = join(tmp_path / f"joined{suffix}", chosen)
    expected = [image for part in chosen for image in images_of(part)]
    info, frames = probe_video(path), list(read_video(path))
    assert len(frames) == len(info.times) == len(expected)
    for frame, image in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.image, image)
    times = [frame.time for frame in frames]
    np.testing.assert_allclose(times, info.times, atol=1e-9)
    # Where the parts are reordered by different numbers of frames, up to two frames' time more at each joint.
    slack = 0.09 * (len(order) - 1) if second else 1e-4
    assert times[0] == 0 and times[-1] == pytest.approx((len(expected) - 1) / 25, abs=slack)
    assert np.diff(times).min() > 0.039
    for index in (0, 49, 50, 51, 79):
        np.testing.assert_array_equal(read_frames(path, [index], info)[0], expected[index])


@pytest.mark.parametrize(("start", "second"), [(0, 0), (4000, 0), (0, 4000), (1.4, 3.4)])
def test_the_clock_of_a_later_part_may_be_any(tmp_path, start, second):
    """It restarts, goes back, goes far on; or it goes on as if nothing had been, as in the segments of a stream."""
    parts = two_parts(tmp_path, ".ts", "libx264", {}, sound=False)
    shifted = [
        remux(part, tmp_path / f"{number}.ts", "-output_ts_offset", str(offset), "-muxdelay", "0", "-muxpreload", "0")
        for number, (part, offset) in enumerate(zip(parts, (start, second), strict=True))
    ]
    path = join(tmp_path / "joined.ts", shifted)
    times = [frame.time for frame in read_video(path)]
    np.testing.assert_allclose(times, np.arange(80) / 25, atol=1e-4)  # the clock's steps are of 1/90000 s
    np.testing.assert_allclose(probe_video(path).times, times, atol=1e-9)


def test_a_part_that_begins_within_a_group_begins_at_its_first_whole_one(tmp_path):
    parts = two_parts(tmp_path, ".ts", "libx264", {}, sound=False)
    cut = tmp_path / "cut.ts"
    with av.open(str(parts[0])) as old, av.open(str(cut), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in itertools.islice(old.demux(video=0), 10, None):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    frames = images_of(join(tmp_path / "joined.ts", [parts[1], cut]))
    for image, expected in zip(frames, images_of(parts[1]) + images_of(cut), strict=True):
        np.testing.assert_array_equal(image, expected)
    assert len(frames) == 30 + 25


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_the_sound_of_a_joined_file_stays_in_step(tmp_path, suffix):
    path = join(tmp_path / "joined.ts", two_parts(tmp_path, ".ts", "libx264", {}))
    result = write_scenes(tmp_path / f"result{suffix}", [index / 25 for index in range(80)], audio_from=path)
    _, start, length = sound_of(result)
    _, source_start, _ = sound_of(path)
    # Packets of 64 ms: the encoder of each part adds one at its begin and fills up the last; one may go at the joint.
    assert start == pytest.approx(source_start, abs=0.07) and length == pytest.approx(3.2, abs=0.2)
    with av.open(str(result)) as file:
        times = np.array([frame.time for frame in file.decode(audio=0)])
    assert np.diff(times).min() > 0 and np.diff(times).max() < 0.14 and times[-1] == pytest.approx(3.2, abs=0.15)


def test_data_that_is_lost_is_no_joint(tmp_path):
    """Packets of a transport stream are taken out, as bad reception does, at many places."""
    part = two_parts(tmp_path, ".ts", "libx264", {}, sound=False)[0]
    data, path = part.read_bytes(), tmp_path / "lost.ts"
    count = len(data) // 188
    for place in np.linspace(30, count - 30, 12).astype(int):
        path.write_bytes(data[: place * 188] + data[(place + 5) * 188 :])
        for read in (images_of, probe_video):
            with pytest.raises(UserError, match="damaged"):
                read(path)
                images_of(path)  # where the index is whole


def test_a_part_that_is_missing_between_others_is_told(tmp_path):
    path = encode(tmp_path / "whole.mkv", 75, options={"g": "25", "bf": "0"})
    ffmpeg("-i", path, "-c", "copy", "-f", "segment", "-segment_time", "1", tmp_path / "part%d.ts")
    parts = [tmp_path / f"part{number}.ts" for number in range(3)]
    assert len(images_of(join(tmp_path / "joined.ts", parts))) == 75
    with pytest.raises(UserError, match=r"damaged or cut off after 0\.\d\d s"):
        images_of(join(tmp_path / "missing.ts", [parts[0], parts[2]]))


@pytest.mark.parametrize("offset", [0.0, 5000.0])
def test_times_are_told_from_the_first_frame(tmp_path, offset):
    path = remux(encode(tmp_path / "a.mkv", options={"g": "99"}), tmp_path / "a.ts", "-output_ts_offset", str(offset))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 188 * 188
    del data[middle : middle + 188 * 3]
    path.write_bytes(data)
    whole = []
    with pytest.raises(UserError) as caught:
        whole.extend(read_video(path))
    told = float(str(caught.value).split(" after ")[1].split(" s")[0])
    assert whole[-1].time - 0.05 <= told <= 2.4  # the last frame shown, or one of those that were in the decoder
    with pytest.raises(UserError, match=r"after [01]\.\d\d s"):
        probe_video(path)


# ---- transparency


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vp9.webm", ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"]),
        ("vp9.mkv", ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"]),
        ("vp8.webm", ["-c:v", "libvpx", "-auto-alt-ref", "0", "-pix_fmt", "yuva420p"]),
        ("prores.mov", ["-c:v", "prores_ks", "-pix_fmt", "yuva444p10le"]),
        ("qtrle.mov", ["-c:v", "qtrle", "-pix_fmt", "argb"]),
        ("png.mov", ["-c:v", "png", "-pix_fmt", "rgba"]),
        ("png16.mov", ["-c:v", "png", "-pix_fmt", "rgba64be"]),
        ("ffv1.mkv", ["-c:v", "ffv1", "-pix_fmt", "yuva420p"]),
        ("moving.png", ["-f", "apng", "-pix_fmt", "rgba"]),
        ("moving.webp", ["-c:v", "libwebp_anim", "-lossless", "1", "-pix_fmt", "bgra"]),
    ],
)
def test_transparent_videos_lie_over_white(tmp_path, name, options):
    """Red that nobody sees on the left, seen in full on the right, and a stripe that moves."""
    for number in range(8):
        rgba = np.zeros((48, 64, 4), np.uint8)
        rgba[..., 0], rgba[:, 32:, 3] = 255, 255
        rgba[8 + number, 32:, 1] = 255
        Image.fromarray(rgba).save(tmp_path / f"{number}.png")
    path = tmp_path / "video" / name
    path.parent.mkdir()
    ffmpeg("-framerate", "25", "-i", tmp_path / "%d.png", *options, path)
    info, frames = probe_video(path), list(read_video(path))
    assert len(frames) == len(info.times) == 8
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(8) / 25, atol=1e-3)
    chosen = read_frames(path, [5], info)[0]
    np.testing.assert_array_equal(chosen, frames[5].image)
    for frame in frames:
        assert frame.image[30:, :28].min() > 245  # lossy coding
        assert np.abs(frame.image[30:, 36:].astype(int) - [255, 0, 0]).max() < 20


def test_damage_in_a_transparent_video_is_told(tmp_path):
    path = tmp_path / "a.webm"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=128x96:rate=25,format=yuva420p", "-t", "2", "-c:v", "libvpx-vp9", path)
    assert len(images_of(path)) == 50
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="a.webm"):
        images_of(path)


# ---- colours of pictures

P3 = [[0.5151, 0.2412, -0.0011], [0.2920, 0.6922, 0.0419], [0.1571, 0.0666, 0.7841]]  # of Display P3, D50, by column
ADOBE = [[0.6097, 0.3111, 0.0195], [0.2053, 0.6257, 0.0609], [0.1492, 0.0632, 0.7446]]
SRGB = [[0.4361, 0.2225, 0.0139], [0.3851, 0.7169, 0.0971], [0.1431, 0.0606, 0.7141]]
D50 = [0.9642, 1.0, 0.8249]
GAMMA = 563 / 256  # Adobe's


def profile(space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ", kind: bytes = b"mntr") -> bytes:
    """An ICC profile, version 2 (ICC.1:2001-04), of these tags."""
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78), b"wtpt": xyz(D50), **tags}
    place, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", place + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", place + len(data), bytes(4), 0x02400000, kind, space, pcs)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + xyz(D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def xyz(values: list[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def rgb_profile(colorants: list[list[float]]) -> bytes:
    tags = {name + b"XYZ": xyz(column) for name, column in zip((b"r", b"g", b"b"), colorants, strict=True)}
    return profile(b"RGB ", tags | {name + b"TRC": curve(GAMMA) for name in (b"r", b"g", b"b")})


def srgb_level(light: np.ndarray) -> np.ndarray:
    light = light.clip(0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def srgb_of(rgb: np.ndarray, colorants: list[list[float]]) -> np.ndarray:
    """IEC 61966-2-1, from levels on Adobe's curve and other primaries."""
    light = (rgb / 255) ** GAMMA @ np.array(colorants) @ np.linalg.inv(SRGB)
    return srgb_level(light)


@pytest.mark.parametrize("colorants", [P3, ADOBE], ids=["Display P3", "Adobe RGB"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_pictures_of_other_colour_spaces_become_srgb(tmp_path, colorants, suffix):
    icc, options = rgb_profile(colorants), {"quality": 100} if suffix in (".jpg", ".webp") else {}
    for colour in ((200, 100, 50), (90, 160, 90), (128, 128, 128), (220, 180, 160)):
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"a{suffix}", icc_profile=icc, **options)
        expected = srgb_of(np.array(colour), colorants)
        image = read_image(tmp_path / f"a{suffix}")
        assert np.abs(image[8, 8] - expected).max() < 3.5  # rounded colorants; the lossy codecs lose up to two levels
        if colour[0] != colour[1]:
            assert np.abs(image[8, 8].astype(int) - colour).max() > 5  # what was read without the profile
        with Image.open(tmp_path / f"a{suffix}") as picture:
            np.testing.assert_array_equal(as_image(picture), image)


def test_profiles_of_transparent_and_palette_pictures_count(tmp_path):
    icc, colour = rgb_profile(ADOBE), (200, 100, 50)
    expected = srgb_of(np.array(colour), ADOBE)
    rgba = Image.new("RGBA", (8, 8), (*colour, 255))
    rgba.paste((*colour, 0), (0, 0, 4, 8))
    rgba.save(tmp_path / "rgba.png", icc_profile=icc)
    image = read_image(tmp_path / "rgba.png")
    assert (image[:, :4] == 255).all() and np.abs(image[4, 6] - expected).max() < 2
    Image.new("RGB", (8, 8), colour).quantize(2).save(tmp_path / "p.png", icc_profile=icc)
    assert np.abs(read_image(tmp_path / "p.png")[4, 6] - expected).max() < 2
    frames = [Image.new("RGB", (8, 8), (*colour[:2], level)) for level in (50, 60)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:], duration=40, icc_profile=icc)
    assert np.abs(next(read_video(tmp_path / "moving.png")).image[4, 6] - expected).max() < 2


def test_grey_and_cmyk_profiles_count(tmp_path):
    linear = profile(b"GRAY", {b"kTRC": curve(1.0)})
    expected = srgb_level(np.array(64 / 255))
    Image.new("L", (8, 8), 64).save(tmp_path / "grey.png", icc_profile=linear)
    assert np.abs(read_image(tmp_path / "grey.png") - expected).max() < 1.5
    Image.fromarray(np.full((8, 8), 64 * 257, np.uint16)).save(tmp_path / "grey16.png", icc_profile=linear)
    assert np.abs(read_image(tmp_path / "grey16.png") - expected).max() < 1.5
    Image.new("LA", (8, 8), (64, 255)).save(tmp_path / "la.png", icc_profile=linear)
    assert np.abs(read_image(tmp_path / "la.png") - expected).max() < 1.5
    # Inks that are all grey: L* falls by a quarter with each.
    ramp = bytes(range(256))
    corners = b"".join(bytes([round(255 * (1 - sum(c) / 4)), 128, 128]) for c in itertools.product((0, 1), repeat=4))
    unit = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit + ramp * 4 + corners + ramp * 3
    inks = profile(b"CMYK", {b"A2B0": table}, pcs=b"Lab ", kind=b"prtr")
    for suffix in (".tif", ".jpg"):
        Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / f"inks{suffix}", icc_profile=inks)
        image = read_image(tmp_path / f"inks{suffix}")
        expected = srgb_level(np.array(((75 + 16) / 116) ** 3))  # of L* 75; without the profile cyan is (0, 255, 255)
        assert np.abs(image[8, 8] - expected).max() < 4


def test_srgb_and_broken_profiles_change_nothing(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = profile(b"GRAY", {b"kTRC": curve(1.0)})
    for icc in (srgb, b"no profile", srgb[:200], grey, rgb_profile(P3)[:-40]):
        Image.fromarray(PHOTO).save(tmp_path / "a.png", icc_profile=icc)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PHOTO)


def test_pictures_of_floats_keep_their_brightness(tmp_path):
    grey = np.tile(np.arange(256, dtype=np.float32), (4, 1))
    expected = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    for values in (grey / 255, grey):
        Image.fromarray(values).save(tmp_path / "a.tif")
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)
    wide = grey / 255
    wide[:, 0], wide[:, 1], wide[:, -1] = -0.1, np.nan, 1.1
    Image.fromarray(wide).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, [0, 1, 128, 255], 0].tolist() == [0, 0, 128, 255]


# ---- printed commands


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("late", [0.0, 0.5])
def test_a_printed_command_cuts_the_frames_asked_for(tmp_path, suffix, late):
    """Also where sound begins before the picture, as in screen recordings."""
    source = encode(tmp_path / "source.mkv", 50, options={"crf": "10"}, start=late, sound=("aac", 0.0, 2.5))
    path = remux(source, tmp_path / f"a{suffix}")
    assert lead_in(path) == pytest.approx(late + 0.064, abs=0.07)  # the sound's encoder begins a packet early
    info, box, frames = probe_video(path), faces.Box(16, 16, 80, 80), images_of(path)
    track = tracks.Track(box, 20, info.times[20], 34, info.times[34], box)
    line = tracks.ffmpeg_command(path, track, info, box, (64, 64), tmp_path / "crop.mp4")
    result = images_of(run_printed(tmp_path, line))
    assert len(result) == 15
    crops = np.stack([faces.cut(frame, box, (64, 64)) for frame in frames]).astype(float)
    for number, image in enumerate(result):
        assert np.abs(crops - image).mean(axis=(1, 2, 3)).argmin() == 20 + number


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p"])
def test_printed_commands_make_what_browsers_play(tmp_path, pix_fmt):
    path = remux(encode(tmp_path / "a.mkv", 10), tmp_path / "a.mp4", "-c:v", "libx264", "-pix_fmt", pix_fmt)
    info, box = probe_video(path), faces.Box(16, 16, 80, 80)
    track = tracks.Track(box, 0, 0.0, 9, info.times[9], box)
    line = tracks.ffmpeg_command(path, track, info, box, (64, 64), tmp_path / "crop.mp4")
    with av.open(str(run_printed(tmp_path, line))) as file:
        assert file.streams.video[0].pix_fmt == "yuv420p"


def test_sound_that_no_decoder_reads_is_none(tmp_path):
    path = encode(tmp_path / "a.mkv", 10, sound=("aac", 0.0, 0.4))
    assert probe_video(path).has_audio
    path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_ZZZ"))
    assert not probe_video(path).has_audio and len(images_of(path)) == 10
    with pytest.raises(UserError, match="audio"), VideoWriter(tmp_path / "b.mp4", 128, 96, 25, audio_from=path) as out:
        out.write(scene(0), 0.0)
