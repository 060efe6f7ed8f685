# SPDX-License-Identifier: Apache-2.0
"""What every privileged room needs of the C library and of threads."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, action: str) -> None:
    """Raise what the last call of the C library left in errno.

    Raises:
        OSError: the result is not 0.
    """
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{action}: {os.strerror(code)}")


def call(name: str, number: int, *arguments: object) -> int:
    """Make a system call that the C library has no function for.

    Raises:
        OSError: it failed.
    """
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Run where a change of namespace ends with the thread."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(work, *arguments).result()
