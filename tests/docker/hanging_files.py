# SPDX-License-Identifier: Apache-2.0
"""A file system that takes every question and answers none, as an LXCFS that hangs over one; a program of its own.

Nothing ends a process that asks it, not even SIGKILL, until this program ends. It says "ready" when it is mounted.

    python tests/docker/hanging_files.py DIRECTORY
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

# linux/fuse.h
_INIT = 26
_REQUEST = struct.Struct("<IIQ")  # of fuse_in_header: len, opcode, unique
_ANSWER = struct.Struct("<IiQ")  # fuse_out_header: len, error, unique
_INIT_ANSWER = struct.Struct("<IIII4xI40x")  # fuse_init_out: major, minor, max_readahead, flags, max_write


def main(directory: str) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    if libc.mount(b"hanging", directory.encode(), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    while True:
        _, operation, number = _REQUEST.unpack_from(os.read(device, 1 << 20))
        if operation == _INIT:
            answer = _INIT_ANSWER.pack(7, 31, 0, 0, 1 << 16)
            os.write(device, _ANSWER.pack(_ANSWER.size + len(answer), 0, number) + answer)
            print("ready", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
