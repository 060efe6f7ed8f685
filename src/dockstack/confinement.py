# SPDX-License-Identifier: Apache-2.0
"""Processes of our own that read what strangers wrote, so that nothing of it is interpreted where it could do harm.

Such a process is given its open files, loads what it needs, and then gives up everything else: what a stranger may make
it do costs little and reaches nothing. Consoles draw in such processes, and images are checked in them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS, prctl(2)
_NOBODY = 65534


def start(
    program: str, arguments: Sequence[str], files: Sequence[int], *, piped: bool = False
) -> subprocess.Popen[bytes]:
    """Start a module of ours with this very Python, in an environment that tells it nothing.

    Args:
        program: the module.
        arguments: its arguments; other users of the machine can see them.
        files: the descriptors that it inherits, under the same numbers.
        piped: give it pipes for its standard input, output and errors; otherwise it has no input and our output.

    Raises:
        OSError: no process can be started.
    """
    pipe = subprocess.PIPE if piped else None
    return subprocess.Popen(
        [sys.executable, "-s", "-m", program, *arguments],
        stdin=pipe or subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        pass_fds=tuple(files),
        cwd="/",
        env={
            "PATH": os.defpath,
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "MALLOC_ARENA_MAX": "1",
        },
    )


def restrain(memory: int, *, niceness: int = 0) -> None:
    """Give up what this process does not need any more.

    No file or socket can be opened, so there is no network either; no process started, no privilege gained, and root
    becomes nobody. All that is needed has to be loaded before.

    Args:
        memory: bytes that it may have for its data.
        niceness: how much it stands back behind others.

    Raises:
        OSError: the system does not let us.
    """
    if niceness:
        os.nice(niceness)
    library = ctypes.CDLL(None, use_errno=True)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _limit(resource.RLIMIT_DATA, memory)
    _limit(resource.RLIMIT_AS, mapped + memory)
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        _limit(kind, 0)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _limit(kind: int, most: int) -> None:
    """Set a limit for good, or keep a lower one."""
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))
