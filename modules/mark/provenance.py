"""Where a result comes from, as metadata: what made it, with which weights, and that it is no photograph.

The terms are IPTC's: ``DigitalSourceType`` of the Photo Metadata Standard, whose values are those of
https://cv.iptc.org/newscodes/digitalsourcetype, and ``AISystemUsed`` and ``AISystemVersionUsed`` of its version 2025.1.
"""

from __future__ import annotations

import functools
import hashlib
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import quoteattr

from ..digest import digest
from ..media.xmp import BEGIN, END

VERSION = "0.2.0"  # as in pyproject.toml
SYSTEM = "DeepExpr"
# Drawn by trained networks; a photograph or video in part by trained networks; the same by a model that is not trained.
SourceType = Literal["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic"]
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
DIGEST = 16  # hexadecimal digits of a SHA-256 that are told
_NAMESPACES = {
    "xmlns:xmp": "http://ns.adobe.com/xap/1.0/",
    "xmlns:Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from.

    Attributes:
        source_type: what kind of picture it is, in IPTC's terms.
        version: of the system, and the weights that it used.
        system: what made it.
    """

    source_type: str
    version: str = VERSION
    system: str = SYSTEM

    def packet(self) -> str:
        """As an XMP packet."""
        values = {
            "xmp:CreatorTool": f"{self.system} {self.version.partition(';')[0]}",
            "Iptc4xmpExt:DigitalSourceType": SOURCE_TYPES + self.source_type,
            "Iptc4xmpExt:AISystemUsed": self.system,
            "Iptc4xmpExt:AISystemVersionUsed": self.version,
        }
        said = " ".join(f"{name}={quoteattr(value)}" for name, value in (_NAMESPACES | values).items())
        return (
            f'{BEGIN}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description rdf:about="" {said}/></rdf:RDF></x:xmpmeta>{END}'
        )


def provenance(source_type: SourceType, weights: Iterable[str | Path]) -> Provenance:
    """Of a result made now by this version with the files or folders ``weights``; a name on a hub has no hash."""
    said = [VERSION, *(_named(str(path)) for path in weights)]
    return Provenance(source_type, "; ".join(said))


def read(packet: str) -> Provenance | None:
    """What a packet says, ours or anybody's, as attributes or elements; None where it names no kind of source."""
    kind = _value(packet, "DigitalSourceType")
    if not kind:
        return None
    system = _value(packet, "AISystemUsed") or _value(packet, "CreatorTool") or "unknown"
    return Provenance(kind.rpartition("/")[2], _value(packet, "AISystemVersionUsed"), system)


def _value(packet: str, name: str) -> str:
    found = re.search(rf"\b{name}(?:=\"([^\"]*)\"|='([^']*)'|>([^<]*)<)", packet)
    return html.unescape(next(filter(None, found.groups()), "")).strip() if found else ""


@functools.cache
def _named(path: str) -> str:
    place = Path(path)
    if not place.exists():
        return path
    if place.is_file():
        found = digest(place)
    else:
        inside = sorted(file for file in place.rglob("*") if file.is_file())
        found = hashlib.sha256("".join(map(digest, inside)).encode()).hexdigest()
    return f"{place.name} sha256:{found[:DIGEST]}"
