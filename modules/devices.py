"""Which devices a process computes on."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:
    import torch


def device_list(text: str | None) -> list[int]:
    """``"0,1,3"`` as numbers.  Raises UserError for anything else."""
    if text is None:
        return []
    try:
        devices = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--device_ids: expected numbers separated by commas, such as 0,1; found {text!r}") from None
    if len(set(devices)) != len(devices) or min(devices) < 0:
        raise UserError(f"--device_ids: expected different numbers from 0 up; found {text!r}")
    return devices


def select_devices(devices: list[int], cpu: bool = False) -> None:
    """Make the numbered GPUs the only ones this process and its children see; numbers count what is visible now."""
    import torch

    # device_count asks the driver without starting CUDA, which would fix what this process sees
    available = torch.cuda.device_count() if devices and not cpu else 0
    if not available:
        return
    if max(devices) >= available:
        raise UserError(f"--device_ids: there is no GPU {max(devices)}; {available} can be seen, numbered from 0")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(available)]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names[i] for i in devices)


def best_device(cpu: bool = False) -> torch.device:
    """A GPU if there is one and it is wanted."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")


def native_precision(cpu: bool = False) -> str:
    """``"bf16"`` where the device computes in it natively, else ``"fp32"``: emulated, bf16 is much slower."""
    import torch

    if best_device(cpu).type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"


def dtype_of(precision: str) -> torch.dtype:
    """What ``"fp32"``, ``"bf16"`` and ``"fp16"`` stand for."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def share_of_batch(batch_size: int, processes: int) -> int:
    """Items of a batch for each process.  Raises UserError where it cannot be shared out evenly."""
    if batch_size % processes:
        raise UserError(f"batch_size {batch_size} cannot be shared by {processes} processes; use a multiple")
    return batch_size // processes


TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def keep_freed_memory(pieces: int = 2**30) -> None:
    """Keep freed memory in this process: blocks of up to ``pieces`` bytes, and twice that at the heap's end.

    glibc gives blocks of more than 32 MiB back to the system, which takes time to clear their pages when they are
    wanted again.  With other C libraries, and glibc before 2.35, nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and mallopt(MMAP_THRESHOLD, pieces):  # glibc takes such numbers from 2.35 on
        mallopt(TRIM_THRESHOLD, 2 * pieces - 1)


def memory() -> float:
    """GiB at most: what PyTorch has allocated on the GPU, or what this process has had in memory."""
    import torch

    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
