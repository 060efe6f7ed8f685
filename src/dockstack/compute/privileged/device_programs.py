# SPDX-License-Identifier: Apache-2.0
"""Which devices a control group of version 2 may use: a program in the kernel says so, and is exchanged for another.

The runtime loads that program at a container's start, and it cannot be changed. What is put in its place is the same
program behind a few instructions of ours for each device of ours: they allow that one, and leave all others to it. They
begin with a mark and hold the device's numbers, so that they are found again in what the kernel says of the program,
and nothing needs to be written down. A group may have several programs, all of which must allow a device; each is
exchanged. An exchange is one step of the kernel: nobody is without rules meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockstack.compute.privileged import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# linux/bpf.h
_LOAD, _ATTACH, _FD_BY_ID, _INFO, _QUERY = 5, 8, 13, 15, 16
_PROGRAM, _PLACE = 15, 6  # BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE
_ALLOW_MULTI, _REPLACE = 2, 4
_BLOCK, READ, WRITE = 1, 2, 4
# Tried on x86_64; aarch64 has its byte order, too, and programs are told as they were loaded. Elsewhere the halves of
# registers are the other way round (s390x), or the kernel adds instructions that it does not take again (riscv64).
_SYSCALLS = {"x86_64": 321, "aarch64": 280}
_INSTRUCTION = struct.Struct("=BBhi")  # what to do, registers, offset, number
_MARK = 0x646F636B
_MOST_PROGRAMS, _MOST_INSTRUCTIONS = 64, 65536
_LICENSE = ctypes.create_string_buffer(b"Apache-2.0")

# Instructions, and the registers that they use: r1 is the question, as the program behind them expects it.
_MOVE_NUMBER, _MOVE, _LOAD_WORD, _AND, _SHIFT_RIGHT, _UNLESS_EQUAL, _EXIT = 0xB7, 0xBF, 0x61, 0x57, 0x77, 0x55, 0x95
_R0, _R2, _R3, _R2_OF_R1, _R3_OF_R1, _R3_OF_R2 = 0x00, 0x02, 0x03, 0x12, 0x13, 0x23
_ACCESS, _MAJOR, _MINOR = 0, 4, 8  # in struct bpf_cgroup_dev_ctx
_KIND_BITS = 0xFFFF
_STEPS = 14  # of what allows one device
_AT_MAJOR, _AT_MINOR, _AT_FORBIDDEN = 6, 8, 10  # which of them hold its numbers


@dataclass(frozen=True)
class _Program:
    """One program of a group: its descriptor, and its instructions."""

    descriptor: int
    code: bytes


def change(group: Path, edit: Callable[[dict[int, int]], object]) -> None:
    """Change which devices a group may use besides those that its own programs allow.

    Args:
        group: the directory of the one to which the programs belong.
        edit: changes what is allowed by us: READ and WRITE, by a device's number. A group without programs may use
            every device, and is not asked.

    Raises:
        OSError: the kernel does not give its programs, or does not take others.
    """
    with _opened(group) as (directory, flags, programs):
        for program in programs:
            allowed, own = _parse(program.code)
            wanted = dict(allowed)
            edit(wanted)
            if wanted != allowed:
                _exchange(directory, flags, program.descriptor, _build(wanted) + own)


def check(group: Path) -> None:
    """Refuse a group whose programs cannot be exchanged.

    Raises:
        OSError: saying why.
    """
    with _opened(group):
        pass


def _parse(code: bytes) -> tuple[dict[int, int], bytes]:
    """Return what the instructions of ours allow, and the others."""
    allowed: dict[int, int] = {}
    size = _INSTRUCTION.size
    while code[:size] == _INSTRUCTION.pack(_MOVE_NUMBER, _R0, 0, _MARK):
        steps = list(_INSTRUCTION.iter_unpack(code[: _STEPS * size]))
        number = os.makedev(steps[_AT_MAJOR][3], steps[_AT_MINOR][3])
        allowed[number] = (READ | WRITE) & ~steps[_AT_FORBIDDEN][3]
        code = code[_STEPS * size :]
    return allowed, code


def _build(allowed: dict[int, int]) -> bytes:
    return b"".join(_allow(number, access) for number, access in sorted(allowed.items()))


def _allow(number: int, access: int) -> bytes:
    steps = (
        (_MOVE_NUMBER, _R0, 0, _MARK),
        (_LOAD_WORD, _R2_OF_R1, _ACCESS, 0),
        (_MOVE, _R3_OF_R2, 0, 0),
        (_AND, _R3, 0, _KIND_BITS),
        (_UNLESS_EQUAL, _R3, _STEPS - 5, _BLOCK),
        (_LOAD_WORD, _R3_OF_R1, _MAJOR, 0),
        (_UNLESS_EQUAL, _R3, _STEPS - 7, os.major(number)),
        (_LOAD_WORD, _R3_OF_R1, _MINOR, 0),
        (_UNLESS_EQUAL, _R3, _STEPS - 9, os.minor(number)),
        (_SHIFT_RIGHT, _R2, 0, 16),
        (_AND, _R2, 0, 7 & ~access),
        (_UNLESS_EQUAL, _R2, _STEPS - 12, 0),
        (_MOVE_NUMBER, _R0, 0, 1),
        (_EXIT, 0, 0, 0),
    )
    return b"".join(_INSTRUCTION.pack(*step) for step in steps)


@contextmanager
def _opened(group: Path) -> Iterator[tuple[int, int, list[_Program]]]:
    """Have a group's directory open, with the programs that are its own."""
    with ExitStack() as stack:
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, directory)
        flags, found = _list(directory)
        programs = []
        for each in found:
            descriptor = _bpf(_FD_BY_ID, struct.pack("=III", each, 0, 0))
            stack.callback(os.close, descriptor)
            programs.append(_Program(descriptor, _read(descriptor)))
        yield directory, flags, programs


def _list(directory: int) -> tuple[int, list[int]]:
    """Return how programs are attached to a group, and the numbers of its own."""
    found = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    asked = ctypes.create_string_buffer(
        struct.pack("=IIIIQII", directory, _PLACE, 0, 0, ctypes.addressof(found), len(found), 0) + bytes(32)
    )
    _bpf(_QUERY, asked)
    _, _, _, flags, _, count, _ = struct.unpack_from("=IIIIQII", asked.raw)
    return flags, list(found[:count])


def _read(descriptor: int) -> bytes:
    """Return a program's instructions.

    Raises:
        OSError: the kernel does not tell them (EACCES).
    """
    code = ctypes.create_string_buffer(_MOST_INSTRUCTIONS * _INSTRUCTION.size)
    # struct bpf_prog_info: type, id, tag (8 bytes), and the sizes and addresses of both forms of the program
    info = ctypes.create_string_buffer(
        struct.pack("=II8sIIQQ", 0, 0, b"", 0, len(code), 0, ctypes.addressof(code)), 256
    )
    _bpf(_INFO, struct.pack("=IIQ", descriptor, 40, ctypes.addressof(info)))
    _, _, _, _, length, _, place = struct.unpack_from("=II8sIIQQ", info.raw)
    if not length or not place:
        raise OSError(
            errno.EACCES, "the kernel does not tell a control group's rules for devices: stop the server for it"
        )
    return code.raw[:length]


def _exchange(directory: int, flags: int, old: int, code: bytes) -> None:
    held = ctypes.create_string_buffer(code, len(code))
    count = len(code) // _INSTRUCTION.size
    licence = ctypes.addressof(_LICENSE)
    new = _bpf(_LOAD, struct.pack("=IIQQIIQI", _PROGRAM, count, ctypes.addressof(held), licence, 0, 0, 0, 0))
    try:
        how = flags | (_REPLACE if flags & _ALLOW_MULTI else 0)
        _bpf(_ATTACH, struct.pack("=IIIII", directory, new, _PLACE, how, old if how & _REPLACE else 0))
    finally:
        os.close(new)


def _bpf(command: int, attributes: bytes | ctypes.Array[ctypes.c_char]) -> int:
    """Make the system call; what the kernel writes comes back in a buffer, if that is what was given."""
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise OSError(
            errno.ENOSYS, f"control groups' programs cannot be changed on {platform.machine()}: stop the server for it"
        )
    buffer = ctypes.create_string_buffer(attributes, len(attributes)) if isinstance(attributes, bytes) else attributes
    return kernel.call("bpf", number, command, buffer, len(buffer))
