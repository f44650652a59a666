"""On PYTHONPATH, kills each stage once at each of its writes: when the file is complete, but not yet in its place.

Python imports this by itself. The folder that REPSEARCH_KILLED names keeps one file per kill, so that none is repeated.
"""

import os
import signal
import sys
from pathlib import Path

folder = os.environ.get("REPSEARCH_KILLED")
if folder and sys.orig_argv[1:3] == ["-m", "repsearch"]:
    stage, fsync, writes = sys.orig_argv[3], os.fsync, 0

    def fsync_or_die(handle: int) -> None:
        global writes
        writes += 1
        try:
            Path(folder, f"{stage} at write {writes}").touch(exist_ok=False)
        except FileExistsError:
            fsync(handle)
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync_or_die
