"""Faults that were found with real files, and what is right there."""

from __future__ import annotations

import av
import pytest
from media_files import encode, scene
from test_crop_video import run_printed

from modules import faces
from modules.faces import tracks
from modules.media import VideoWriter, probe_video, read_frames, read_video


def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encode("plain.mp4", count=5, sound=("aac", 0, 0.2))
    (tmp_path / "plain.mp4").rename("a:b.mp4")
    info = probe_video("a:b.mp4")
    assert len(info.times) == 5 and len(list(read_video("a:b.mp4"))) == 5 and read_frames("a:b.mp4", [3])
    for name in ("c:d.mp4", "c:d.webm", "c:d.gif"):
        with VideoWriter(name, 128, 96, 25, audio_from="a:b.mp4") as writer:
            for index in range(5):
                writer.write(scene(index), index / 25)
        assert len(probe_video(name).times) == 5
    box = faces.Box(16, 16, 80, 80)
    track = tracks.Track(box, 0, 0.0, 4, 0.16, box)
    run_printed(tmp_path, tracks.ffmpeg_command("a:b.mp4", track, info, box, (64, 64), "crop.mp4"))
    assert len(probe_video("crop.mp4").times) == 5


@pytest.mark.parametrize("rate", [25, 50, 60, 100, 240])
def test_no_delay_of_a_gif_is_under_20_ms(tmp_path, rate):
    with VideoWriter(tmp_path / "a.gif", 128, 96, rate, duration=0.5) as writer:
        for index in range(rate // 2):
            writer.write(scene(index % 60), index / rate)
    with av.open(str(tmp_path / "a.gif")) as file:
        delays = [float(packet.duration * packet.time_base) for packet in file.demux(video=0) if packet.size]
    assert min(delays) > 0.0199 and sum(delays) == pytest.approx(0.5, abs=0.021)  # one frame of 20 ms
    assert writer.count == len(delays) == len(list(read_video(tmp_path / "a.gif")))
