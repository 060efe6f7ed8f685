# SPDX-License-Identifier: Apache-2.0
"""What this host can decrypt, known before anything is begun."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockstack.compute.model import Encryption

PROGRAMS = ("cryptsetup", "qemu-storage-daemon", "setpriv", "setsid")
HEADER_BYTES = 16 << 20
"""How much smaller than what Cinder says a volume may be, which keeps its header."""
_ROOTS_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_FUSE = Path("/dev/fuse")
_PROVIDER = "luks"
_CIPHERS = {"aes-xts-plain64": (256, 512)}


def find_obstacle() -> str:
    """Say why this host can decrypt nothing, as the rest of a sentence; nothing if it can."""
    path = os.pathsep.join((os.environ.get("PATH", ""), _ROOTS_PATH))
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        return f"it has no {', '.join(missing)}"
    return "" if _FUSE.exists() else "its kernel has no FUSE"


def find_misfit(encryption: Encryption) -> str:
    """Say why no host can open what is encrypted so, as the rest of a sentence; nothing if one can."""
    if encryption.provider != _PROVIDER:
        return f"hosts decrypt {_PROVIDER}, and it is {encryption.provider or 'of no known kind'}"
    if encryption.bits not in _CIPHERS.get(encryption.cipher, ()):
        return f"hosts have no cipher {encryption.cipher} with {encryption.bits} bits"
    return ""
