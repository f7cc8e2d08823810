"""What tells that a result was made by a machine: metadata, and marks in the picture."""

from .marking import Marking, Watermark
from .provenance import Provenance

__all__ = ["Marking", "Provenance", "Watermark"]
