# SPDX-License-Identifier: Apache-2.0
"""Describe the machine on which a figure was measured; without that it cannot be compared."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """Return the facts of this machine that a reader of the figures needs."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "system": system_of(Path("/etc/os-release")),
        "cpu": value_of(Path("/proc/cpuinfo"), "model name"),
        "cores": os.cpu_count(),
        "memory_mib": int(value_of(Path("/proc/meminfo"), "MemTotal").split()[0]) // 1024,
        "load_1m_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def value_of(path: Path, key: str) -> str:
    """Return the first value of a key in a file of ``key : value`` lines; "0" if it is not there."""
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "0"


def system_of(path: Path) -> str:
    """Return the distribution's name for people."""
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system()
