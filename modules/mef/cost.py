"""What a thousand pictures cost: told at the end of caching, training and drawing."""

from __future__ import annotations

from ..devices import memory


def cost(what: str, pictures: int, seconds: float, processes: int = 1) -> str:
    """One line: wall-clock seconds per 1,000 pictures by ``processes`` together, and this process's peak memory."""
    rate = 1000 * seconds / max(1, pictures)
    together = f" by {processes} processes" if processes > 1 else ""
    return f"{what}: {rate:,.1f} s per 1,000 pictures{together} ({pictures:,}), {memory():.2f} GiB at most"
