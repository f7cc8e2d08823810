"""Videos are written whole or not at all: times, colours, sizes, sound."""

from __future__ import annotations

import contextlib
import gc
import itertools

import av
import numpy as np
import pytest
from media_files import PHOTO, encode, images_of, scene, sound_of, write_scenes

from modules.errors import UserError
from modules.media import (
    VideoWriter,
    probe_video,
    read_frames,
    read_video,
    resize,
    write_image,
)


@pytest.mark.parametrize(
    ("suffix", "tolerance"),
    [(".mp4", 1e-4), (".mov", 1e-4), (".mkv", 1e-3), (".webm", 1e-3), (".gif", 0.0101)],  # the containers' time steps
)
def test_variable_frame_times_are_read_back(tmp_path, suffix, tolerance):
    steps = np.random.default_rng(1).uniform(0.02, 0.11, 40)
    times = [0.0, *np.cumsum(steps)]
    path = write_scenes(tmp_path / "new" / f"a{suffix}", times, duration=times[-1] + 0.2)
    info = probe_video(path)
    np.testing.assert_allclose(info.times, times, atol=tolerance)
    np.testing.assert_allclose([frame.time for frame in read_video(path)], info.times, atol=1e-9)
    assert (info.width, info.height) == (128, 96)
    if suffix in (".mp4", ".mov", ".gif"):  # Matroska does not store how long the last frame lasts
        assert info.duration == pytest.approx(times[-1] + 0.2, abs=tolerance)
    images = images_of(path)
    np.testing.assert_array_equal(read_frames(path, [33], info)[0], images[33])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("suffix", "error"), [(".mp4", 5.0), (".mkv", 5.0), (".webm", 5.0), (".gif", 5.0)])
def test_colours_survive(tmp_path, suffix, error):
    picture = resize(PHOTO, 128, 128)
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, 128, 128, 25) as writer:
        for index in range(3):
            writer.write(picture, index / 25)
    difference = images_of(path)[1].astype(float) - picture
    # Half-resolution chroma or 256 colours cost some levels on fine detail; a wrong matrix or range would shift means.
    assert np.abs(difference).mean() < error
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.7


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_key_frames_are_as_near_as_is_asked_for(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, 64, 64, 25, key_every=5) as writer:
        for index in range(23):
            writer.write(np.roll(resize(PHOTO, 64, 64), index, axis=1), index / 25)
    assert probe_video(path).keyframes == (0, 5, 10, 15, 20)


def test_odd_sizes_are_padded_by_the_edge(tmp_path):
    path = write_scenes(tmp_path / "a.mp4", [0, 0.04, 0.08], height=95, width=127)
    image = images_of(path)[0]
    assert image.shape == (96, 128, 3)
    assert np.abs(image[:95, :127].astype(float) - scene(0, 95, 127)).mean() < 5  # as above
    assert np.abs(image[95].astype(float) - image[94]).mean() < 5
    gif = write_scenes(tmp_path / "a.gif", [0, 0.04], height=95, width=127)
    assert images_of(gif)[0].shape == (95, 127, 3)


@pytest.mark.parametrize(
    ("source", "target", "codec"),
    [
        ("aac.mp4", ".mp4", "aac"),  # copied
        ("aac.mp4", ".webm", "opus"),  # encoded
        ("pcm_s16le.mov", ".mp4", "aac"),  # encoded
        ("aac.mp4", ".mkv", "aac"),
        ("aac.mp4", ".gif", None),
    ],
)
def test_sound_is_kept_whole_and_in_step(tmp_path, source, target, codec):
    sound_codec = source.split(".")[0]
    for sound_start, video_start in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5)):
        driver = encode(tmp_path / source, count=20, start=video_start, sound=(sound_codec, sound_start, 1.5))
        path = tmp_path / f"result{target}"
        with VideoWriter(path, 128, 96, 25, audio_from=driver) as writer:
            for frame in read_video(driver):
                writer.write(frame.image, frame.time)
        info = probe_video(path)
        assert info.has_audio == (codec is not None)
        np.testing.assert_allclose(info.times, np.arange(20) / 25, atol=1e-3)
        if codec is None:
            continue
        name, start, length = sound_of(path)
        _, driver_start, driver_length = sound_of(driver)
        frame = 1024 / 16000  # an AAC frame; encoders add up to one at the start and fill up the last
        assert name == codec
        assert length == pytest.approx(driver_length, abs=frame + 1e-3)
        assert start == pytest.approx(driver_start, abs=frame + 1e-3)


@pytest.mark.parametrize(
    ("source", "codec", "layout", "read_as", "target", "expected"),
    [
        ("a.avi", "pcm_s16le", "mono", "1 channels", ".mp4", "mono"),
        ("a.avi", "pcm_s16le", "stereo", "2 channels", ".mp4", "stereo"),
        ("a.wmv", "wmav2", "stereo", "2 channels", ".mp4", "stereo"),
        ("a.mkv", "ac3", "5.1(side)", "5.1(side)", ".webm", "5.1"),
        ("a.mkv", "pcm_s16le", "quad", "4 channels", ".mp4", "stereo"),
    ],
)
def test_sound_whose_channels_are_not_named_as_the_encoder_names_them(
    tmp_path, source, codec, layout, read_as, target, expected
):
    driver = encode(tmp_path / source, 30, "mpeg4", sound=(codec, 0.0, 1.2), layout=layout)
    with av.open(str(driver)) as file:
        assert file.streams.audio[0].layout.name == read_as
    path = write_scenes(tmp_path / f"result{target}", [index / 25 for index in range(30)], audio_from=driver)
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    assert {frame.layout.name for frame in frames} == {expected}
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(float)
    assert sum(frame.samples / frame.rate for frame in frames) == pytest.approx(1.2, abs=0.1)  # filled up to packets
    assert np.abs(np.fft.rfft(sound)).argmax() * frames[0].rate / len(sound) == pytest.approx(440, abs=2)


def test_a_driver_without_sound_gives_a_video_without_sound(tmp_path):
    driver = encode(tmp_path / "driver.mp4", count=5)
    path = write_scenes(tmp_path / "a.mp4", [0, 0.04], audio_from=driver)
    assert not probe_video(path).has_audio


def test_sound_and_pictures_are_interleaved(tmp_path):
    driver = encode(tmp_path / "driver.mp4", count=150, sound=("aac", 0.0, 6.0))
    path = write_scenes(tmp_path / "a.mp4", [index / 25 for index in range(150)], audio_from=driver)
    with av.open(str(path)) as file:
        packets = [
            (packet.pos, packet.stream.type, float(packet.dts * packet.time_base))
            for packet in file.demux()
            if packet.dts is not None
        ]
    behind, latest = 0.0, {"audio": 0.0, "video": 0.0}
    for _, kind, time in sorted(packets):
        latest[kind] = time
        behind = max(behind, abs(latest["audio"] - latest["video"]))
    assert behind < 1.2  # MP4 writes chunks of up to a second


def test_an_exception_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyError), VideoWriter(tmp_path / "a.mp4", 128, 96, 25) as writer:
        for index in range(60):
            writer.write(scene(index), index / 25)
        raise KeyError("elsewhere")
    with pytest.raises(UserError, match="no frame"), VideoWriter(tmp_path / "b.mp4", 128, 96, 25):
        pass
    with pytest.raises(UserError, match="go back"), VideoWriter(tmp_path / "c.mp4", 128, 96, 25) as writer:
        writer.write(scene(0), 0.5)
        writer.write(scene(1), 0.4)
    with pytest.raises(ValueError, match="expected"), VideoWriter(tmp_path / "d.mp4", 128, 96, 25) as writer:
        writer.write(scene(0, 90), 0)
    with pytest.raises(UserError, match="missing.mp4: no such file"):
        VideoWriter(tmp_path / "e.mp4", 128, 96, 25, audio_from=tmp_path / "missing.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("old")
    with contextlib.suppress(KeyError), VideoWriter(path, 128, 96, 25) as writer:
        writer.write(scene(0), 0)
        raise KeyError
    assert path.read_text() == "old"
    write_scenes(path, [0, 0.04])
    assert len(images_of(path)) == 2


def test_frames_finer_than_the_time_step_of_a_gif_are_merged(tmp_path):
    write_scenes(tmp_path / "a.gif", [index / 240 for index in range(24)])  # 0.1 s at 240 a second
    times = probe_video(tmp_path / "a.gif").times
    assert len(times) < 24 and times == pytest.approx([index / 50 for index in range(len(times))], abs=1e-6)
    assert times[-1] == pytest.approx(0.1, abs=0.021)  # one frame of 20 ms


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    for path, match in (
        (tmp_path / "file" / "a.mp4", "cannot be written"),
        (tmp_path / "folder.mp4", "is a folder"),
        (tmp_path / "a.xyz", "use one of"),
    ):
        with pytest.raises(UserError, match=match) as caught:
            VideoWriter(path, 128, 96, 25)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        with pytest.raises(UserError):
            write_image(path.with_suffix(".png") if path.suffix == ".mp4" and path.parent.is_file() else path, PHOTO)


@pytest.mark.parametrize("frames", [3, 60])  # the disk is full when the file is closed, and before
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, full_disk, suffix, frames):
    path = tmp_path / f"a{suffix}"
    random = np.random.default_rng(0)
    with (
        pytest.raises(UserError, match=r"cannot be written \(File too large\); free space") as caught,
        VideoWriter(path, 128, 128, 25) as writer,
    ):
        for index in range(frames):
            writer.write(random.integers(0, 256, (128, 128, 3), np.uint8), index / 25)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="File too large"):
        write_image(tmp_path / "a.png", PHOTO)
    assert list(tmp_path.iterdir()) == []


def test_reading_holds_no_frames(tmp_path):
    """Memory does not grow with the length, not even until the garbage collector comes by."""

    def held() -> int:
        return sum(type(item) is av.VideoFrame for item in gc.get_objects())

    counts = []
    gc.collect()
    others = held()  # of streams that other tests have left open
    stream = read_video(encode(tmp_path / "a.mp4", count=200))
    gc.disable()
    try:
        for _ in itertools.islice(stream, 0, None, 50):
            counts.append(held() - others)
    finally:
        gc.enable()
    assert len(counts) == 4 and min(counts) > 0  # frames are seen by the collector, or this would prove nothing
    assert max(counts) <= 16  # a decoder may hand over some at once, one from each of its threads
