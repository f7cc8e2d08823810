"""XMP packets (ISO 16684-1), metadata that stands in a file as text.  Imported by the other files of :mod:`.media`.

A packet says itself where it begins and ends, so that it is found in a file of any kind by looking for it (XMP
Specification, part 3, *Packet scanning*).
"""

from __future__ import annotations

import mmap
import re
import struct
import uuid
from pathlib import Path

BEGIN, END = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>', '<?xpacket end="w"?>'
_PACKET = re.compile(rb"<\?xpacket begin=.*?<\?xpacket end=.*?\?>", re.DOTALL)
_MP4_BOX = uuid.UUID("BE7ACFCB-97A9-42E8-9C71-999491E3AFAC").bytes
# A GIF's reader, which takes a packet for blocks with their lengths before them, gets out of it by these.
_GIF_HEAD, _GIF_TAIL = b"\x21\xff\x0bXMP DataXMP", bytes([1, *range(255, -1, -1), 0])
_GIF_END = b"\x3b"
TAGGED = (".mkv", ".webm")  # containers that take a packet as a tag, before anything is written


def append_xmp(path: Path, packet: str) -> None:
    """Add a packet to a finished ``.mp4``, ``.m4v``, ``.mov`` or ``.gif``."""
    data = packet.encode()
    with path.open("r+b") as file:
        if path.suffix.lower() == ".gif":
            file.seek(-len(_GIF_END), 2)
            if file.read() != _GIF_END:
                raise ValueError(f"{path}: does not end as a GIF does")
            file.seek(-len(_GIF_END), 2)
            file.write(_GIF_HEAD + data + _GIF_TAIL + _GIF_END)
        else:
            file.seek(0, 2)
            file.write(struct.pack(">I", 24 + len(data)) + b"uuid" + _MP4_BOX + data)


def read_xmp(path: str | Path) -> str | None:
    """The first packet of a file; None where there is none."""
    with open(path, "rb") as file:
        file.seek(0, 2)
        if not file.tell():
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = _PACKET.search(data)
            return None if found is None else found[0].decode("utf-8", errors="replace")
