"""Files joined end to end, as ``cat a.ts b.ts`` joins them: each part has a clock and packet counters of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import av

JOINABLE = {"mpegts", "mpeg"}  # the formats whose files remain files when they are joined
# Where time stamps go back or forward by more, in seconds, another clock begins: as the ffmpeg program has it
# (ffmpeg_demux.c, ts_discontinuity_detect, and its option -dts_delta_threshold).
BACK, FORWARD = 0.1, 10.0
_SYNC, _PAT, _NULL = 0x47, 0, 0x1FFF  # of transport streams: ISO/IEC 13818-1, section 2.4.3


class OneClock(Iterable[av.Packet]):
    """The packets of one stream, those of later parts brought to the first part's clock.

    An empty packet, which flushes a decoder, comes between two parts.

    Args:
        packets: of one stream, in the file's order.
        container: whose they are.
        offsets: seconds to add to the clock of each later part.  By default a part begins where the one before ends;
            these offsets are then found in ``offsets`` when the packets have been read.  Where they are given (those of
            the video, for the sound), packets are left out that would begin before the end of the part before.
    """

    def __init__(
        self, packets: Iterable[av.Packet], container: av.container.InputContainer, offsets: Iterable[float] = ()
    ):
        self._packets, self._given = packets, list(offsets)
        self._may_be_joined = container.format.name in JOINABLE
        self.offsets: list[float] = []

    def __iter__(self) -> Iterator[av.Packet]:
        if not self._may_be_joined:
            yield from self._packets
            return
        before: int | None = None  # the dts before, on its own part's clock
        decoded = shown = offset = 0  # the latest dts and pts so far, on the first clock
        end = begin = -(2**62)  # of the packets so far, and of the part: nothing of it is to begin earlier
        step = 1
        for packet in self._packets:
            if packet.dts is not None:
                if before is not None and _jumps(packet, before):
                    ends = av.Packet()
                    ends.time_base = packet.time_base
                    yield ends
                    offset, begin = self._offset(packet, decoded + step, shown + step), end
                elif before is not None and packet.dts > before:
                    step = packet.duration or packet.dts - before
                before = packet.dts
                packet.dts += offset
                decoded = max(decoded, packet.dts)
                end = max(end, packet.dts + (packet.duration or 0))
            if packet.pts is not None:
                packet.pts += offset
                shown = max(shown, packet.pts)
            if not self._given or packet.dts is None or packet.dts >= begin:
                yield packet

    def _offset(self, packet: av.Packet, decoded: int, shown: int) -> int:
        """What is added to a part's clock, in the stream's units, if it may not begin before ``decoded`` and ``shown``.

        Both count: parts need not be reordered by the same number of frames.
        """
        number = len(self.offsets)
        if number < len(self._given):
            offset = round(self._given[number] / packet.time_base)
        else:
            offset = max(decoded - packet.dts, decoded if packet.pts is None else shown - packet.pts)
        self.offsets.append(float(offset * packet.time_base))
        return offset


def _jumps(packet: av.Packet, before: int) -> bool:
    return not -BACK <= (packet.dts - before) * packet.time_base <= FORWARD


class Breaks:
    """Tells data that was lost from parts that were joined, where FFmpeg calls a packet corrupt.

    It does where the counters of a transport stream do not go on.  Of a joint three things are asked: that the file
    goes on there as a file begins, with a key frame, and that no time is missing on a clock that goes on.
    """

    def __init__(self, path: str | Path):
        self._path = path
        self._awaited = 0  # packets within which another part is to begin; 0: none is announced
        self._is_lost = self._begins = False
        self._before: int | None = None  # dts
        self._step = 0  # the longest so far between two

    @property
    def is_lost(self) -> bool:
        """Whether data was lost, asked at the end: a part that was announced is to have come."""
        return self._is_lost or self._awaited > 0

    def show_loss(self, packet: av.Packet) -> bool:
        """Whether data was lost before or in this packet, of those that :class:`OneClock` gives."""
        step = 0 if packet.dts is None or self._before is None else packet.dts - self._before
        if self._begins:  # after a jump of the clock, which no loss causes
            self._awaited = 0
        elif self._awaited and packet.size:
            self._awaited = 0 if packet.is_keyframe else self._awaited - 1
            self._is_lost = step >= 2 * self._step or not (self._awaited or packet.is_keyframe)
        else:
            self._step = max(self._step, step)
        self._begins = not packet.size
        self._before = self._before if packet.dts is None else packet.dts
        if packet.is_corrupt and _breaks_as_joined(self._path, packet.pos):
            self._awaited = 3  # the parser of the stream marks one or two packets too early
        elif packet.is_corrupt:
            self._is_lost = True
        return self._is_lost


def _breaks_as_joined(path: str | Path, position: int | None) -> bool:
    """Whether the first break of a transport stream after byte ``position`` is one between two files.

    Between files everything begins as a file does: with a table of programs, and after it the data of each stream at
    the start of a unit.
    """
    if position is None:
        return False
    counters: dict[int, int] = {}
    starts: dict[int, bool] | None = None  # of the streams since the last table: whether their data began with a unit
    for packet in _transport_packets(path, position):
        pid = int.from_bytes(packet[1:3]) & 0x1FFF
        has_adaptation, has_payload = packet[3] & 0x20, packet[3] & 0x10
        if packet[0] != _SYNC:
            return False
        if pid == _PAT:
            starts = {}
        if pid == _NULL:
            continue
        if starts is not None and has_payload:
            starts.setdefault(pid, bool(packet[1] & 0x40))
        counter, last = packet[3] & 0x0F, counters.get(pid)
        counters[pid] = counter
        is_announced = has_adaptation and packet[4] > 0 and packet[5] & 0x80
        if last is not None and not is_announced and counter != (last + bool(has_payload)) % 16:
            return starts is not None and all(starts.values())
    return False


def _transport_packets(path: str | Path, position: int) -> Iterator[bytes]:
    """The 188 bytes of each packet: Blu-ray's (.m2ts) and broadcasters' have 4 before them or 16 after them."""
    with open(path, "rb") as file:
        file.seek(position)
        head = file.read(204 * 5)
        layouts = ((size, begin) for size in (188, 192, 204) for begin in range(size))
        found = [(size, begin) for size, begin in layouts if set(head[begin::size][:4]) == {_SYNC}]
        if not found:
            return
        size, begin = found[0]
        file.seek(position + begin)
        while len(packet := file.read(size)) >= 188:
            yield packet[:188]
