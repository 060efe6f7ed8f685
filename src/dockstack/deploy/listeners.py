# SPDX-License-Identifier: Apache-2.0
"""Who listens on which TCP port of this machine, read from /proc, and whether that process is ours."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from dockstack.deploy import processes

LISTEN = "0A"  # include/net/tcp_states.h: TCP_LISTEN
OUR_UNITS = "dockstack"


@dataclass(frozen=True)
class Listener:
    """A listening socket."""

    address: str
    port: int
    pid: int | None = None
    program: str = "an unknown process"
    ours: bool = False


def listening() -> tuple[Listener, ...]:
    """Return all listening TCP sockets with their processes; only root sees those of others."""
    sockets = {**_sockets("/proc/net/tcp", socket.AF_INET), **_sockets("/proc/net/tcp6", socket.AF_INET6)}
    owners = _owners(set(sockets))
    return tuple(_listener(address, port, owners.get(inode)) for inode, (address, port) in sockets.items())


def parse_address(text: str, family: socket.AddressFamily) -> tuple[str, int]:
    """Parse an address of /proc/net/tcp: hexadecimal words in the host's byte order, a colon, the port."""
    words, _, port = text.partition(":")
    raw = b"".join(struct.pack("=I", int(words[i : i + 8], 16)) for i in range(0, len(words), 8))
    return socket.inet_ntop(family, raw), int(port, 16)


def _sockets(path: str, family: socket.AddressFamily) -> dict[str, tuple[str, int]]:
    try:
        lines = Path(path).read_text().splitlines()[1:]
    except FileNotFoundError:
        return {}
    rows = (line.split() for line in lines)
    return {row[9]: parse_address(row[1], family) for row in rows if row[3] == LISTEN}


def _owners(inodes: set[str]) -> dict[str, int]:
    owners: dict[str, int] = {}
    for pid in processes.snapshot():
        for link in _open_files(pid):
            inode = link.removeprefix("socket:[").removesuffix("]")
            if inode in inodes:
                owners.setdefault(inode, pid)
    return owners


def _open_files(pid: int) -> list[str]:
    directory = processes.PROC / str(pid) / "fd"
    found = []
    try:
        entries = list(directory.iterdir())
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return []
    for entry in entries:
        try:
            found.append(str(entry.readlink()))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # closed meanwhile, such as the listing's own, or in a container that hides it
    return found


def _listener(address: str, port: int, pid: int | None) -> Listener:
    if pid is None:
        return Listener(address, port)
    command = processes.arguments(pid)
    program = Path(command[0]).name if command else "a kernel thread"
    return Listener(address, port, pid, program, _is_ours(pid))


def _is_ours(pid: int) -> bool:
    if processes.mark(pid, processes.SERVICE_MARK) is not None:
        return True
    try:
        group = (processes.PROC / str(pid) / "cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return f"/{OUR_UNITS}-" in group
