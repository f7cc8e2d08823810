"""Where the tests' scripts come from: a process that has imported what they need, and forks into each of them.

Each script is a process of its own, which ends as any does. What it is spared is the import of PyTorch and diffusers:
many seconds, where its work often takes less than one. ``tests/scripts.py`` asks for them.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import socket
import sys
import threading
import traceback
from typing import Any

# What scripts import late. No module that is run with -m is among them: it is to be imported as __main__ first.
PRELOADED = (
    "modules.evaluation.animation",
    "modules.evaluation.evaluate",
    "modules.evaluation.evaluate_mef",
    "modules.evaluation.reconstruction",
    "modules.mef.export",
    "modules.mef.inference",
    "modules.mef.small_base.train",
    "modules.mef.train",
    "modules.sid.inference",
    "modules.sid.train",
    "torch.distributed.launcher.api",
)
LONGEST_REQUEST = 1 << 20  # bytes


def main() -> None:
    """Serve requests from the socket whose number is the argument, until its other end is closed."""
    door = socket.socket(fileno=int(sys.argv[1]))
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # pages that the collector does not write to stay shared
    keepers = set()
    while True:
        message, descriptors, *_ = socket.recv_fds(door, LONGEST_REQUEST, 3)
        keepers -= {pid for pid in keepers if os.waitpid(pid, os.WNOHANG)[0]}
        if not message:
            break
        pid = os.fork()
        keepers.add(pid)
        if pid == 0:
            door.close()
            keep(json.loads(message), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
    for pid in keepers:
        os.waitpid(pid, 0)


def keep(request: dict[str, Any], stdout: int, stderr: int, report: int) -> None:
    """Fork once more, into the script; write its process number and, when it has ended, its status to ``report``."""
    pid = os.fork()
    if pid == 0:
        os.close(report)
        become(request, stdout, stderr)
        return
    for descriptor in (stdout, stderr):
        os.close(descriptor)
    os.write(report, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(report, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def become(request: dict[str, Any], stdout: int, stderr: int) -> None:
    """Run the script in this process, as ``python script.py ...`` or ``python -m module ...`` would."""
    import numpy as np

    if request["new_session"]:
        os.setsid()
    for descriptor, place in ((stdout, 1), (stderr, 2)):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    np.random.seed()  # NumPy's numbers alone are not drawn anew after a fork
    program, *arguments = request["args"]
    status = 0
    try:
        if program == "-m":
            program, *arguments = arguments
            sys.argv, sys.path[0] = [program, *arguments], request["cwd"]
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = [program, *arguments], os.path.dirname(os.path.abspath(program))
            runpy.run_path(program, run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    # from here as Python ends, the exception and what it held on to forgotten; but without taking apart every module:
    # half a second where all are imported
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
