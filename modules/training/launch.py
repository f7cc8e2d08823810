"""One process per device: spawned here for ``--device_ids``, or found already started by torchrun or accelerate."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

from ..arguments import started_module
from ..errors import UserError

HELD_BACK = 5.0  # seconds; a launcher ends its processes within a fraction of one once one has failed


def launched() -> bool:
    """Whether this process is one of several that a launcher started."""
    return "LOCAL_RANK" in os.environ or "OMPI_COMM_WORLD_LOCAL_RANK" in os.environ


def share_of_work(rank: int, world: int) -> tuple[slice, float]:
    """Which part of a list this process is to work on for its machine, and where in that part it begins (0 to 1).

    The processes of a machine do all the list between them, since its disk may be its own; machines that share a disk
    begin at different places and find the rest done.
    """
    from accelerate.utils.environment import get_cpu_distributed_information  # of any launcher, GPUs or not

    found = get_cpu_distributed_information()
    return slice(found.local_rank % found.local_world_size, None, found.local_world_size), rank / world


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Let rank 0 alone say what is wrong for all: the others hold their UserError back until the launcher ends them.

    Where it does not end them, the error was of one process alone, which then says it.
    """
    try:
        yield
    except UserError:
        if int(os.environ.get("RANK", 0)):
            time.sleep(HELD_BACK)
        raise


def spawn(processes: int) -> None:
    """Run this very command line in ``processes`` processes on this machine and exit with their status.

    PyTorch's elastic agent starts them, passes signals on, and stops all when one fails.
    """
    import logging

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # processes speak for themselves
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="deepexpr",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    # a module that was started with -m has to be started so again: its own folder is not where imports begin
    name = started_module()
    program = sys.argv if name is None else ["-m", name, *sys.argv[1:]]
    # each process computes with its share of the cores unless the user says otherwise
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    try:
        elastic_launch(config, sys.executable)("-u", *program)
    except ChildFailedError as error:
        sys.exit(error.get_first_failure()[1].exitcode)
    except SignalException as error:
        sys.exit(128 + int(error.sigval))
    sys.exit(0)
