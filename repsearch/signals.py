"""A job that a signal ends says so: a cluster's time limit, scancel, Ctrl-C. SIGKILL gives a process no time to."""

import contextlib
import os
import signal
from datetime import datetime
from pathlib import Path
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def report(log_file: Path | None) -> None:
    """From now on a signal that ends this process adds a line to standard error and to the log file.

    The exit status is then 128 + the signal's number. The process ends at once, as by SIGKILL, which outputs withstand:
    they are written atomically, and what a search or training run has saved is used when it runs again.
    """

    def end(number: int, _: FrameType | None) -> None:
        name, now = signal.Signals(number).name, f"{datetime.now():%Y-%m-%d %H:%M:%S}"
        text = f"{now} stopped by {name}: what is unfinished does not count as made; run it again to go on\n"
        with contextlib.suppress(OSError):  # a closed terminal, a full disk
            os.write(2, text.encode())  # not by logging, which the signal may have interrupted
        with contextlib.suppress(OSError):
            if log_file is not None:
                with log_file.open("a", encoding="utf-8") as opened:
                    opened.write(text)
        os._exit(128 + number)

    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks
            signal.signal(number, end)
