# SPDX-License-Identifier: Apache-2.0
"""The check of one image, as a process of its own: ``python -m dockstack.oci REQUEST``; see ``dockstack.oci.sandbox``.

It reads the archive from its standard input and writes one line of JSON to its standard output. Its limits are set
before the first byte is read: memory, computing time, no further files, no network, no processes, no privileges.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import resource
import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dockstack.confinement import restrain
from dockstack.oci.documents import ImageRejected
from dockstack.oci.layers import Budget, check_layer
from dockstack.oci.normalise import check
from dockstack.oci.sandbox import ANSWER_BYTES, READY
from dockstack.oci.spool import Spool, WorkspaceFull
from dockstack.oci.streams import ImageLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.errors import DockstackError

MEMORY_BYTES = 224 << 20
TEXT = 2000  # characters of each part of an error
_PATIENCE = 9  # seconds of computing that any image may take
_PATIENCE_PER_MIB = 0.5  # and for each MiB that came of it; slow decoders on slow processors need a fifth
_STEP = 16 << 20
_INPUT = 256 << 10  # bytes; what fits a cache is hashed and kept faster than a MiB, which is new memory every time


class _Pace:
    """Lets the check go on computing as long as something comes of it.

    What costs a parser much time and gives it nothing is told by that alone, whatever trick it is.
    """

    def __init__(self, most: int) -> None:
        """Grant the first seconds.

        Args:
            most: seconds of computing in all.
        """
        self._most = most
        self._count = 0
        self._next = _STEP
        self._grant()

    def __call__(self, count: int) -> None:
        """Note bytes that were kept."""
        self._count += count
        if self._count >= self._next:
            self._next = self._count + _STEP
            self._grant()

    def _grant(self) -> None:
        seconds = min(self._most, _PATIENCE + int(_PATIENCE_PER_MIB * (self._count >> 20)))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, self._most))


def main() -> int:
    """Check what comes, and say what was found."""
    request = json.loads(sys.argv[1])
    limits = ImageLimits(**request["limits"])
    for name in ("sha256", "sha512"):
        hashlib.new(name)  # loads what it needs
    gc.disable()  # nothing here has circles, and walking what a hostile image makes is slow
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    most = limits.max_spooled_bytes + limits.max_unpacked_bytes + (64 << 20)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    restrain(MEMORY_BYTES)
    pace = _Pace(request["seconds"])
    os.write(sys.stdout.fileno(), READY)
    _say(_answer(request, limits, pace))
    return 0


def _answer(request: dict[str, Any], limits: ImageLimits, pace: _Pace) -> dict[str, Any]:
    """Do what is asked, whatever comes of it."""
    try:
        return _measure(limits, pace) if request["task"] == "layer" else _check(request, limits, pace)
    except WorkspaceFull as error:
        return {"full": _texts(error)}
    except ImageRejected as error:
        return {"rejected": _texts(error)}
    except MemoryError:
        pass  # said below, where what filled the memory is forgotten
    except OSError as error:
        return {"trouble": str(error)[:TEXT]}
    except Exception as error:  # noqa: BLE001 - what no parser should do, an image made one do
        return {"surprised": f"{type(error).__name__}: {error}"[:TEXT]}
    return {"memory": MEMORY_BYTES >> 20}


def _check(request: dict[str, Any], limits: ImageLimits, pace: _Pace) -> dict[str, Any]:
    archive, unpacked = (Spool(number, pace) for number in request["spools"])
    verdict = check(_input(), request["architecture"], limits, (archive, unpacked))
    return {"image": {**vars(verdict), "config": asdict(verdict.config)}}


def _measure(limits: ImageLimits, pace: _Pace) -> dict[str, Any]:
    digest, size = check_layer(_input(), Budget(limits), complete=True, keep=lambda chunk: pace(len(chunk)))
    return {"layer": {"digest": str(digest), "size": size}}


def _texts(error: DockstackError) -> list[str]:
    return [text[:TEXT] for text in (error.brief, error.resolution, error.details)]


def _input() -> Iterator[bytes]:
    descriptor = sys.stdin.fileno()
    while chunk := os.read(descriptor, _INPUT):
        yield chunk


def _say(answer: dict[str, Any]) -> None:
    data = json.dumps(answer).encode()
    if len(data) > ANSWER_BYTES:
        data = json.dumps({"long": len(data)}).encode()
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


if __name__ == "__main__":
    sys.exit(main())
