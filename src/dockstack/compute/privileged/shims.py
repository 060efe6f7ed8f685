# SPDX-License-Identifier: Apache-2.0
"""The processes of a container that its engine has forgotten: containerd's shim, and what runs under it."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import select
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.compute.privileged import context

if TYPE_CHECKING:
    from collections.abc import Callable

_CONTAINER = re.compile(r"[0-9a-f]{64}")
_SHIM = b"containerd-shim"
_PROCESSES = Path("/proc")
_END_SECONDS = 5.0


@context.entrypoint
def end(container_id: str) -> int:
    """End a container's shim with what runs under it; say how many processes that were. None is fine.

    The caller knows that the container does not run. An engine that was killed between the making of a container and
    its start has its shim go on with the process that waits to be started (``runc init``). The engine that comes after
    it never looks for them: it removes the container beside them, and cannot start it while they are there. Containerd
    sees the end of a shim, and puts the rest in order.

    Args:
        container_id: the engine's id of the container; shims bear it as the word after ``-id``.

    Raises:
        ValueError: that is no container's id.
    """
    if not _CONTAINER.fullmatch(container_id):
        raise ValueError(f"{container_id!r} is no container's id")
    with ExitStack() as held:
        shims = _hold(held, lambda pid: _is_shim_of(pid, container_id.encode()))
        children = _hold(held, lambda pid: _parent(pid) in shims) if shims else {}
        ended = [each for each in (*children.values(), *shims.values()) if _kill(each)]  # no child without its shim
        _wait(ended)
    return len(ended)


def _is_shim_of(pid: int, container_id: bytes) -> bool:
    words = _read(pid, "cmdline").split(b"\0")
    name = words[0].rpartition(b"/")[2]
    return name.startswith(_SHIM) and (b"-id", container_id) in itertools.pairwise(words)


def _parent(pid: int) -> int:
    """Return a process's parent, 0 if it is gone; its name, in brackets, may hold anything (proc(5), stat)."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _hold(held: ExitStack, wanted: Callable[[int], bool]) -> dict[int, int]:
    """Take hold of the processes that are wanted, so that their numbers mean nobody else; descriptors by number."""
    found = {}
    for pid in _pids():
        if not wanted(pid):
            continue
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            held.callback(os.close, descriptor)
            if wanted(pid):  # it is still the same one
                found[pid] = descriptor
    return found


def _kill(descriptor: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return True
    return False


def _wait(descriptors: list[int]) -> None:
    """Wait until all have ended, which a descriptor of a process tells by being readable (pidfd_open(2))."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    left, deadline = set(descriptors), time.monotonic() + _END_SECONDS
    while left and time.monotonic() < deadline:
        for descriptor, _ in poll.poll(1000 * (deadline - time.monotonic())):
            poll.unregister(descriptor)
            left.discard(descriptor)


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROCESSES.iterdir() if entry.name.isdigit()]


def _read(pid: int, file: str) -> bytes:
    try:
        return (_PROCESSES / str(pid) / file).read_bytes()
    except OSError:  # it is gone
        return b""
