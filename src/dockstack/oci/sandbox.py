# SPDX-License-Identifier: Apache-2.0
"""Images are checked in a process of their own, which a hostile one may fill, slow down or crash as it likes.

This process only passes the download on, by a pipe. The other one checks it and keeps it in files without a name that
both have open; it says little: which slices of those files the engine is to be given, some while it still checks. So
the memory here stays flat whatever an image holds, and none of its bytes is interpreted.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

from dockstack import confinement
from dockstack.errors import DockstackError
from dockstack.oci.documents import Digest, ImageRejected, Layer
from dockstack.oci.normalised import NormalisedImage, Verdict
from dockstack.oci.process import ImageConfig
from dockstack.oci.spool import Extent, WorkspaceFull, open_spools, read_slice

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from dockstack.oci.streams import ImageLimits

READY = b"\n"  # what the other process says when its limits are set: from here on, its end is the image's fault
ANSWER_BYTES = 1 << 20
_PER_MIB = 128  # bytes that it may say of each MiB that goes ahead of its answer
_PROGRAM = "dockstack.oci"
_MANIFESTS = 64 << 20  # bytes of all that is no layer
_PIPE_BYTES = 1 << 20  # what an unprivileged process may ask for
_ERRORS = 4000  # bytes of what it says before it is ready
_MINIMUM_SECONDS = 10  # of computing, also where the time is short: the end of the time is told by the clock
_BROKEN = "It is damaged, or made to do harm: write it again with `docker save` or `skopeo copy`."


class CannotCheck(DockstackError):  # noqa: N818 - said of the host
    """This host cannot check any image; no fault of the image."""


class InputTooSlow(DockstackError):  # noqa: N818 - said of where it comes from
    """The archive was not here in time; no fault of the image."""


def normalise(
    chunks: Iterable[bytes], *, architecture: str, limits: ImageLimits, workspace: Path, timeout: float
) -> NormalisedImage:
    """Have an image archive read whole and checked; nothing of it stays in the workspace after ``close`` or an error.

    This returns when the engine may be given something, which of an image without large layers is after the check. What
    is raised here is otherwise raised by the stream.

    Args:
        chunks: the archive, as Glance stores it; read to its end, or until it is refused, in a thread of its own.
        architecture: the host's ("x86_64", "aarch64"; the specification's names are understood too).
        limits: how much is read before the image is refused.
        workspace: a directory of the host with room for the archive without its compression.
        timeout: seconds until both reading and checking must be done.

    Raises:
        ImageRejected: the image is broken, hostile, too large, or not for this host; or its check broke down.
        WorkspaceFull: the workspace has no room.
        InputTooSlow: ``chunks`` did not end in time.
        CannotCheck: the host's own trouble.
        Exception: whatever ``chunks`` raises.
    """
    with ExitStack() as stack:
        spools = _open(stack, workspace, 2)
        check = _Check({"task": "image", "architecture": architecture}, limits, spools, timeout)
        parts = _parts(stack.enter_context(closing(check.run(chunks))), spools, limits)
        first = next(parts)
        return NormalisedImage(chain((first,), parts), spools, stack.pop_all())


def measure(
    chunks: Iterable[bytes], *, limits: ImageLimits, workspace: Path, timeout: float, resources: ExitStack, keep: bool
) -> Layer:
    """Read a root file system and check it as a layer.

    Args:
        chunks: it, as a tar.
        limits: what hosts accept.
        workspace: a directory of the host, with room for it if it is kept.
        timeout: seconds until both reading and checking must be done.
        resources: gives the workspace back when it is closed.
        keep: keep its bytes in the workspace, so that the layer can be read from there; otherwise it reads as nothing.

    Raises:
        Exception: as ``normalise``.
    """
    with ExitStack() as stack:
        spools = _open(stack, workspace, int(keep))
        with closing(_Check({"task": "layer"}, limits, spools, timeout).run(chunks)) as said:
            answer = next(said)
        with _understanding():
            digest, size = Digest.parse(answer["layer"]["digest"]), int(answer["layer"]["size"])
        resources.push(stack.pop_all())
        return Layer(digest, size, lambda: read_slice(spools[0], 0, size) if keep else ())


class _Check:
    """One check."""

    def __init__(self, request: dict[str, Any], limits: ImageLimits, spools: Sequence[int], timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._timeout = timeout
        self._most = ANSWER_BYTES + _PER_MIB * (limits.max_unpacked_bytes >> 20)
        seconds = max(_MINIMUM_SECONDS, int(timeout))
        arguments = json.dumps(request | {"limits": asdict(limits), "spools": list(spools), "seconds": seconds})
        try:
            self._process = confinement.start(_PROGRAM, [arguments], spools, piped=True)
        except OSError as error:
            raise _cannot(str(error)) from error

    def run(self, chunks: Iterable[bytes]) -> Generator[Any]:
        """Pass the input on, and yield what the other process says: lists while it checks, at last its answer.

        Raises:
            Exception: as ``normalise``.
        """
        try:
            feeder = _Feeder(self._process, chunks)
            feeder.start()
            lines, answer = self._lines(feeder), None
            if next(lines, None) != READY.strip():
                raise _cannot(os.read(_descriptor(self._process.stderr), _ERRORS).decode(errors="replace"))
            for line in lines:
                with _understanding():
                    answer = json.loads(line)
                if not isinstance(answer, list):
                    break
                yield answer
            if feeder.error is not None:
                raise feeder.error
            if answer is None or isinstance(answer, list):
                raise self._silenced(feeder)
            with _understanding():
                for kind in answer.keys() & _FAULTS.keys():
                    raise _FAULTS[kind](answer[kind])
            yield answer
        finally:
            self._end()

    def _lines(self, feeder: _Feeder) -> Iterator[bytes]:
        """Read what the other process says, until it ends or the time is over."""
        output, rest, left = _descriptor(self._process.stdout), b"", self._most
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while left > 0:
                seconds = self._deadline - time.monotonic()
                if seconds <= 0 or not selector.select(seconds):
                    raise self._late(feeder)
                data = os.read(output, 65536)
                if not data:
                    return
                left -= len(data)
                *lines, rest = (rest + data).split(b"\n")
                yield from lines
        raise _senseless("it does not end")

    def _silenced(self, feeder: _Feeder) -> DockstackError:
        """Say what became of a process that gave no answer."""
        try:
            return _ended(self._process.wait(max(0, self._deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            return self._late(feeder)

    def _late(self, feeder: _Feeder) -> DockstackError:
        if not feeder.done:
            return InputTooSlow(f"The image was not here within {self._timeout:g} s.", "Look what slows its way down.")
        return ImageRejected(
            f"The image could not be checked within {self._timeout:g} s.",
            "Make it smaller or compress it less; on a slow host, raise [docker] image_timeout.",
        )

    def _end(self) -> None:
        """End the other process if it goes on; the feeder notices, and closes its pipe itself."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._process.stderr):
            if file is not None:
                file.close()


class _Feeder(threading.Thread):
    """Passes chunks on to a process, in a thread of its own: where they come from may be silent for long.

    Attributes:
        done: whether all were passed on, or nobody wanted more.
        error: what went wrong where they come from.
    """

    def __init__(self, process: subprocess.Popen[bytes], chunks: Iterable[bytes]) -> None:
        super().__init__(name="image-feeder", daemon=True)
        self._pipe = os.dup(_descriptor(process.stdin))
        if process.stdin is not None:
            process.stdin.close()
        self._chunks = chunks
        self.done = False
        self.error: BaseException | None = None
        with suppress(OSError):  # only faster
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def run(self) -> None:
        """Pass them on."""
        try:
            for chunk in self._chunks:
                if not self._write(chunk):
                    break
            self.done = True
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
            self.error = error
        finally:
            os.close(self._pipe)
            if callable(close := getattr(self._chunks, "close", None)):
                close()

    def _write(self, chunk: bytes) -> bool:
        left = memoryview(chunk)
        try:
            while left:
                left = left[os.write(self._pipe, left) :]
        except BrokenPipeError:
            return False
        return True


def _descriptor(file: Any) -> int:
    """Return the number of one of the other process's pipes."""
    return int(file.fileno())


def _open(stack: ExitStack, workspace: Path, count: int) -> tuple[int, ...]:
    try:
        return open_spools(stack, workspace, count)
    except OSError as error:
        raise _cannot(str(error)) from error


def _parts(said: Iterator[Any], spools: Sequence[int], limits: ImageLimits) -> Iterator[Extent | Verdict]:
    """Read what the other process says of an image: slices that are there, and no more than an image may have."""
    left = 2 * limits.max_unpacked_bytes + _MANIFESTS
    for message in said:
        with _understanding():
            part = Extent(*map(int, message)) if isinstance(message, list) else _verdict(**message["image"])
            for extent in part.extents if isinstance(part, Verdict) else (part,):
                left -= extent.size
                if min(extent) < 0 or left < 0 or sum(extent[1:]) > os.fstat(spools[extent.spool]).st_size:
                    raise ValueError(f"{extent} is too much, or not there")
        yield part


def _verdict(engine_id: str, config: dict[str, Any], size: int, extents: list[list[int]]) -> Verdict:
    """Read what the other process says of a sound image."""
    lists = {name: tuple(config[name]) for name in ("command", "entrypoint", "volumes")}
    places = tuple(Extent(*map(int, extent)) for extent in extents)
    return Verdict(str(Digest.parse(engine_id)), ImageConfig(**(config | lists)), int(size), places)


@contextmanager
def _understanding() -> Iterator[None]:
    """Take what makes no sense for a refusal: an image that takes the other process over is no sound one."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise _senseless(str(error)) from error


def _senseless(details: str) -> ImageRejected:
    return ImageRejected("The image's check gave no sensible answer.", _BROKEN, details)


def _cannot(details: str) -> CannotCheck:
    return CannotCheck(
        "This host cannot check images.",
        "Look at the details, at its free memory and processes, and whether dockstack is installed whole.",
        details,
    )


def _ended(status: int) -> ImageRejected:
    if status == -signal.SIGXCPU:
        return ImageRejected("The image takes more computing to read than any sound one of its size.", _BROKEN)
    return ImageRejected("The image made its own check break down.", _BROKEN, f"it ended with status {status}")


# what the other process may say instead of an image
_FAULTS: dict[str, Callable[[Any], DockstackError]] = {
    "rejected": lambda texts: ImageRejected(*(str(text) for text in texts)),
    "full": lambda texts: WorkspaceFull(*(str(text) for text in texts)),
    "trouble": lambda text: _cannot(str(text)),
    "surprised": lambda text: ImageRejected("The image cannot be read.", _BROKEN, str(text)),
    "memory": lambda most: ImageRejected(
        f"The image takes more than {most} MiB of memory to read.",
        "No sound image does: build it again, with a smaller compression window if it has a large one.",
    ),
    "long": lambda _: ImageRejected(
        "The image's configuration says more than 1 MiB about its process.", "Build it again with less."
    ),
}
