# SPDX-License-Identifier: Apache-2.0
"""Which process listens on which TCP port of this machine, and whether it is one of our services."""

from __future__ import annotations

import pwd
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dockstack.deploy.node import processes

if TYPE_CHECKING:
    from collections.abc import Iterable

LISTEN = "0A"  # include/net/tcp_states.h: TCP_LISTEN
OUR_UNITS = "dockstack"
LAST_SYSTEM_UID = 999  # login.defs: people's accounts come after


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
    found = (one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN)
    return tuple(_listener(one.laddr.ip, one.laddr.port, one.pid) for one in found)


def holds(pids: Iterable[int], port: int) -> bool:
    """Tell whether one of these processes listens on a TCP port, each asked about in its own network namespace.

    /proc is read for that, as psutil knows the sockets of the caller's network namespace only.
    """
    bound: dict[str, set[str]] = {}
    for pid in pids:
        namespace = _network_of(pid)
        if namespace not in bound:
            bound[namespace] = {f"socket:[{inode}]" for inode, (_, number) in _tables(pid).items() if number == port}
        if bound[namespace] and any(link in bound[namespace] for link in _open_files(pid)):
            return True
    return False


def parse_address(text: str, family: socket.AddressFamily) -> tuple[str, int]:
    """Parse an address of /proc/net/tcp: hexadecimal words in the host's byte order, a colon, the port."""
    words, _, port = text.partition(":")
    raw = b"".join(struct.pack("=I", int(words[i : i + 8], 16)) for i in range(0, len(words), 8))
    return socket.inet_ntop(family, raw), int(port, 16)


def _tables(pid: int) -> dict[str, tuple[str, int]]:
    """Return the listening sockets of a process's network namespace, by inode."""
    tables = processes.PROC / str(pid) / "net"
    return {**_sockets(tables / "tcp", socket.AF_INET), **_sockets(tables / "tcp6", socket.AF_INET6)}


def _network_of(pid: int) -> str:
    try:
        return str((processes.PROC / str(pid) / "ns" / "net").readlink())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


def _sockets(path: Path, family: socket.AddressFamily) -> dict[str, tuple[str, int]]:
    try:
        lines = path.read_text().splitlines()[1:]
    except OSError:  # no such family in this kernel, or the process has ended
        return {}
    rows = (line.split() for line in lines)
    return {row[9]: parse_address(row[1], family) for row in rows if row[3] == LISTEN}


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
    """Whether this process is a service of ours: a person's process is not, even if it carries our mark."""
    try:
        if _is_person(psutil.Process(pid).uids().real):
            return False
    except psutil.Error:
        return False
    if processes.mark(pid, processes.SERVICE_MARK) is not None:
        return True
    try:
        group = (processes.PROC / str(pid) / "cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return f"/{OUR_UNITS}-" in group


def _is_person(uid: int) -> bool:
    """Whether a person can log in with this user id; services' ids are lower, or have no shell."""
    try:
        shell = pwd.getpwuid(uid).pw_shell
    except KeyError:
        return True
    return uid > LAST_SYSTEM_UID and not shell.endswith(("/nologin", "/false"))
