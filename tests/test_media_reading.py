"""Videos are read as a player shows them: times, rotation, colours; and damage is named."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import PHOTO, encode, images_of, only_error, scene, tone_packets, write_scenes

from modules.errors import UserError
from modules.media import (
    access,
    frames_throughout,
    is_image,
    is_video,
    probe_video,
    read_frames,
    read_video,
    resize,
)


def test_names_tell_videos_from_pictures():
    assert is_video("a/b.MP4") and is_video("x.gif") and is_video("x.mkv")
    assert is_image("a/b.JPG") and is_image(Path("x.png"))
    assert is_image("x.jfif") and is_image("x.JPE") and is_image("x.avif")
    assert not is_image("x.mpg") and not is_image("x.h5") and not is_image("x.txt")
    assert not is_video("x.png") and not is_image("x.gif") and not is_video("mp4")


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b_frames.mp4", "libx264", {"x264-params": "keyint=12:bframes=3:b-pyramid=normal"}),
        ("one_group.mp4", "libx264", {"g": "600"}),
        ("open_group.mkv", "libx264", {"x264-params": "open-gop=1:keyint=20:bframes=3"}),
        ("short_groups.mp4", "libx264", {"x264-params": "keyint=2:bframes=1"}),
        ("reordered.avi", "libx264", {}),
        ("plain.avi", "mpeg4", {}),
    ],
)
def test_random_access_gives_the_frames_of_the_stream(tmp_path, name, codec, options):
    path = encode(tmp_path / name, codec=codec, options=options)
    info, frames = probe_video(path), list(read_video(path))
    assert len(frames) == len(info.times) == 60 and (info.width, info.height) == (128, 96)
    assert info.frame_rate == 25 and not info.has_audio
    assert info.duration == pytest.approx(2.4, abs=1e-3)  # Matroska and AVI count in steps of up to 1 ms
    np.testing.assert_allclose([frame.time for frame in frames], info.times, atol=1e-9)
    np.testing.assert_allclose(info.times, np.arange(60) / 25, atol=1e-3)
    for index in (0, 1, 11, 12, 13, 19, 20, 37, 58, 59):
        np.testing.assert_array_equal(read_frames(path, [index], info)[0], frames[index].image)
    spread = list(frames_throughout(path))
    assert len(spread) == 8
    for index, image in zip(access.soon_decoded(info), spread, strict=True):
        np.testing.assert_array_equal(image, frames[index].image)
    wanted = [59, 3, 3, 21, 0, 40]  # any order, repeated
    for index, image in zip(wanted, read_frames(path, wanted), strict=True):
        np.testing.assert_array_equal(image, frames[index].image)


@pytest.mark.parametrize("name", ["a.mpg", "a.h264"])
def test_where_frames_lack_times_all_are_evenly_spaced(tmp_path, name):
    """An MPEG program stream has a time every few frames only: to take it where there is one would go back in time."""
    path = encode(tmp_path / name, options={"g": "60", "bf": "2"})
    frames, info = list(read_video(path)), probe_video(path)
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(60) / 25, atol=1e-9)
    np.testing.assert_allclose(info.times, np.arange(60) / 25, atol=1e-9)
    np.testing.assert_array_equal(read_frames(path, [31], info)[0], frames[31].image)
    write_scenes(tmp_path / "a.mp4", [frame.time for frame in frames], audio_from=path)


def test_frames_throughout_a_video_are_decoded_once(tmp_path, monkeypatch):
    path = encode(tmp_path / "one_group.mp4", options={"g": "600"})
    decoded, decode = [], access.decode

    def counted(*args, **options):
        frames = decode(*args, **options)
        decoded.extend(frames)
        return frames

    monkeypatch.setattr(access, "decode", counted)
    assert len(list(frames_throughout(path))) == 8 and len(decoded) < 65  # the index takes one more


@pytest.mark.parametrize(("group", "taken"), [("5", "key frames"), ("600", "the same")])
def test_key_frames_are_looked_at_where_there_are_enough(tmp_path, group, taken):
    info = probe_video(encode(tmp_path / "clip.mp4", options={"g": group, "sc_threshold": "0"}))
    spread, soon = access.throughout(len(info.times), info.duration), access.soon_decoded(info)
    assert len(soon) == 8 and max(abs(a - b) for a, b in zip(spread, soon, strict=True)) <= 7.5  # frames between two
    assert soon == spread if taken == "the same" else set(soon) <= set(info.keyframes)


def cut_into(source: Path, target: Path, skip: int) -> Path:
    """The packets of ``source`` from number ``skip`` on, as ``ffmpeg -c copy`` cuts."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in itertools.islice(old.demux(video=0), skip, None):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


@pytest.mark.parametrize("groups", ["closed", "open"])
@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4", ".avi", ".mpg"])
@pytest.mark.parametrize("skip", [10, 31])
def test_what_is_cut_within_a_group_begins_at_its_first_whole_one(tmp_path, groups, suffix, skip):
    x264 = f"keyint=30:min-keyint=30:scenecut=0:bframes=3:open-gop={int(groups == 'open')}"
    whole = images_of(encode(tmp_path / "whole.ts", 90, options={"x264-params": x264}))
    path = cut_into(tmp_path / "whole.ts", tmp_path / f"cut{suffix}", skip)
    frames, info = list(read_video(path)), probe_video(path)
    assert len(frames) == len(info.times) <= 90 - skip
    np.testing.assert_allclose([frame.time for frame in frames], info.times, atol=1e-9)
    np.testing.assert_allclose(info.times, np.arange(len(frames)) / 25, atol=1e-3)  # Matroska counts in ms
    for index in (0, 1, 5, len(frames) - 1):
        image = read_frames(path, [index], info)[0]
        np.testing.assert_array_equal(image, frames[index].image)
        np.testing.assert_array_equal(image, whole[len(whole) - len(frames) + index])


def test_a_frame_that_the_decoder_does_not_give_is_named(tmp_path):
    path = encode(tmp_path / "a.mp4", count=20)
    longer = probe_video(encode(tmp_path / "b.mp4", count=30))
    with pytest.raises(UserError, match=r"a\.mp4: frame 25, at 1\.00 s, cannot be decoded"):
        read_frames(path, [3, 25], longer)


def test_an_index_that_does_not_exist_is_refused(tmp_path):
    path = encode(tmp_path / "a.mp4", count=5)
    for index in (-1, 5):
        with pytest.raises(IndexError):
            read_frames(path, [index])


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotated_videos_come_as_a_player_shows_them(tmp_path, rotation):
    upright = images_of(encode(tmp_path / "upright.mp4", count=8))
    path = encode(tmp_path / "rotated.mp4", count=8, rotation=rotation)
    info, frames = probe_video(path), images_of(path)
    assert (info.height, info.width) == ((128, 96) if abs(rotation) == 90 else (96, 128))
    # The display matrix turns counter-clockwise, as np.rot90 does.
    for image, reference in zip(frames, upright, strict=True):
        np.testing.assert_array_equal(image, np.rot90(reference, rotation // 90))
    np.testing.assert_array_equal(read_frames(path, [5])[0], frames[5])


@pytest.mark.parametrize(("height", "width", "matrix"), [(720, 1280, "ITU709"), (96, 128, "ITU601")])
def test_the_colours_of_videos_without_a_tag_are_those_players_show(tmp_path, height, width, matrix):
    picture = resize(PHOTO, height, width)
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=getattr(av.video.reformatter.Colorspace, matrix))
        frame.colorspace = 2  # unspecified
        file.mux(stream.encode(frame) + stream.encode(None))
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert next(file.decode(video=0)).colorspace == 2
    difference = images_of(tmp_path / "a.mp4")[0].astype(float) - picture
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.7  # the other matrix shifts the means by several levels


@pytest.mark.parametrize(("rotation", "shape"), [(0, (96, 171, 3)), (90, (171, 96, 3))])
def test_pixels_that_are_not_square_are_made_square(tmp_path, rotation, shape):
    path = encode(tmp_path / "a.mp4", count=4, aspect=Fraction(4, 3), rotation=rotation)
    info = probe_video(path)
    assert (info.height, info.width, 3) == shape  # 128 columns of 4/3 are 170.7
    assert images_of(path)[0].shape == read_frames(path, [2], info)[0].shape == shape


def test_a_video_that_begins_late_begins_at_zero(tmp_path):
    path = encode(tmp_path / "late.mkv", count=10, start=0.6)
    assert probe_video(path).times[0] == 0
    assert [frame.time for frame in read_video(path)] == pytest.approx(list(np.arange(10) / 25), abs=1e-3)


def test_what_is_no_video_is_named(tmp_path):
    assert "no such file" in only_error(tmp_path / "missing.mp4")
    assert "folder" in only_error(tmp_path)
    text, empty = tmp_path / "text.mp4", tmp_path / "empty.mp4"
    text.write_text("this is no video\n" * 100)
    empty.touch()
    assert "not a video" in only_error(text)
    assert "not a video" in only_error(empty)
    with pytest.raises(UserError, match="no such file"):
        probe_video(tmp_path / "missing.mp4")


def test_a_video_without_pictures_is_named(tmp_path):
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as file:
        stream = file.add_stream("aac", rate=16000, layout="mono")
        file.mux(tone_packets(stream, 0, 0.5))
    assert "no video stream" in only_error(sound)
    no_frame = tmp_path / "no_frame.avi"
    with av.open(str(no_frame), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        file.start_encoding()
    assert str(no_frame) in only_error(no_frame)
    with pytest.raises(UserError):
        probe_video(no_frame)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_bytes_smashed_in_the_middle_are_an_error_that_names_the_time(tmp_path, codec):
    path = encode(tmp_path / "a.mp4", codec=codec, options={"g": "12"})
    data = bytearray(path.read_bytes())
    middle = (data.index(b"mdat") + data.rindex(b"moov")) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    good = []
    with pytest.raises(UserError, match=r"damaged after \d\.\d\d s"):
        good.extend(read_video(path))  # extend keeps what came before the error
    assert "damaged" in only_error(path)
    assert len(probe_video(path).times) == 60  # the index is whole
    np.testing.assert_array_equal(read_frames(path, [0])[0], next(read_video(path)).image)  # what is whole can be had
    with pytest.raises(UserError, match="damaged"):
        read_frames(path, range(60))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif"])
def test_a_video_that_is_cut_off_is_an_error(tmp_path, suffix):
    path = write_scenes(tmp_path / f"a{suffix}", [index / 25 for index in range(50)])
    whole = path.read_bytes()
    for share in (0.5, 0.7):
        path.write_bytes(whole[: int(len(whole) * share)])
        only_error(path)
        with pytest.raises(UserError, match="cut off|complete"):
            probe_video(path)


def test_a_trimmed_video_is_not_taken_for_one_that_is_cut_off(tmp_path):
    """Phones trim by an edit list: the file still holds, and counts, all frames."""
    path = encode(tmp_path / "a.mp4", options={"g": "6", "bf": "0"})
    data = bytearray(path.read_bytes())
    place = data.index(b"elst") + 12  # after the name, version and number of edits: the duration in ms
    assert int.from_bytes(data[place : place + 4], "big") == 2400
    data[place : place + 4] = (1000).to_bytes(4, "big")
    path.write_bytes(data)
    times = [frame.time for frame in read_video(path)]
    assert len(times) in (25, 26)  # the frame that begins where the edit ends may count
    assert probe_video(path).times == pytest.approx(times)


def test_a_mp4_without_its_index_is_an_error(tmp_path):
    path = encode(tmp_path / "a.mp4")  # the index stands at the end
    path.write_bytes(path.read_bytes()[:-4000])
    assert "complete" in only_error(path)


LOSSLESS = {"libx264": {"qp": "0"}, "libx265": {"x265-params": "lossless=1:log-level=none"}}


@pytest.mark.parametrize("codec", LOSSLESS)
def test_a_video_of_ten_bits_reads_as_its_twin_of_eight(tmp_path, codec):
    twins = {}
    for pix_fmt, step in (("yuv420p", 1), ("yuv420p10le", 4)):
        path = tmp_path / f"{pix_fmt}.mkv"
        with av.open(str(path), "w") as file:
            stream = file.add_stream(codec, rate=25, options=LOSSLESS[codec])
            stream.width, stream.height, stream.pix_fmt = 128, 96, pix_fmt
            for index in range(6):
                eight = av.VideoFrame.from_ndarray(scene(index), format="rgb24").reformat(format="yuv420p").to_ndarray()
                values = eight if step == 1 else eight.astype(np.uint16) * step
                file.mux(stream.encode(av.VideoFrame.from_ndarray(values, format=pix_fmt)))
            file.mux(stream.encode())
        with av.open(str(path)) as file:
            assert file.streams.video[0].pix_fmt == pix_fmt
        twins[pix_fmt] = np.stack([frame.image for frame in read_video(path)]).astype(int)
        assert np.array_equal(read_frames(path, [4])[0], twins[pix_fmt][4])
    assert twins["yuv420p"].shape == (6, 96, 128, 3)
    # conversion to RGB rounds once from values four times as fine
    assert np.abs(twins["yuv420p"] - twins["yuv420p10le"]).max() <= 1
