"""Locks that a process holds until it ends, however it ends: the kernel releases them, so that none is ever stale."""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from repsearch.errors import UserError
from repsearch.storage.files import cannot_write

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # what a file system without locks says


def hold(path: Path, output: Path) -> None:
    """Hold the lock file `path`, which stands for `output`; wait, and log it, while another process holds it.

    The file is never removed: two processes could then hold it. It is opened for writing, since NFS locks no other
    files. On a file system without locks this logs a warning and returns (outputs are written atomically all the same).
    Raises UserError where the file can't be made or is a symbolic link, which is not followed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path} is a symbolic link, not a lock: delete it and run again") from None
        raise UserError(cannot_write(path, error)) from error
    try:
        if not _taken(lock):
            holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
            log.info("waiting for %s, which is working on %s", holder, output)
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s can't be locked (%s): run no other job that makes it", output, error.strerror)
        return
    job = os.environ.get("SLURM_JOB_ID")
    text = f"process {os.getpid()} on {socket.gethostname()}" + (f", Slurm job {job}" if job else "")
    with contextlib.suppress(OSError):  # only a waiting process reads this: a full disk is harmless
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{text}\n".encode(), 0)


def hold_one(names: Sequence[str], folder: Path, poll_seconds: float = 1.0) -> int:
    """Hold the first of several locks that is free: its index in `names`; wait, and log it, while none is free.

    The lock of a name is a folder of that name in `folder`, which all users of this machine may share, such as /tmp:
    read permission is enough to lock a folder, and programs that clean /tmp spare one that is locked.
    """
    waiting = False
    while True:
        for index, name in enumerate(names):
            if _hold_folder(folder / name):
                return index
        if not waiting:
            log.info("waiting: all are taken by other jobs (%s)", ", ".join(names))
            waiting = True
        time.sleep(poll_seconds)


def _hold_folder(path: Path) -> bool:
    mask = os.umask(0)  # every user may read it
    try:
        path.mkdir(mode=0o755, exist_ok=True)
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise UserError(f"{path} can't be locked: {error.strerror}; delete it") from error
    finally:
        os.umask(mask)
    if _taken(lock):
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):  # not one that was removed meanwhile
                return True
    os.close(lock)
    return False


def _taken(lock: int) -> bool:
    """Take the lock if it is free, and say whether it was."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
