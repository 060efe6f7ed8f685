# SPDX-License-Identifier: Apache-2.0
"""Images are checked in a process of their own, which a hostile one may fill, slow down or crash as it likes.

This process only passes the download on, by a pipe. The other one checks it and keeps it in files without a name that
both have open; its answer is small, and says which slices of those files the engine is to be given. So the memory here
stays flat whatever an image holds, and none of its bytes is interpreted.
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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dockstack import confinement
from dockstack.errors import DockstackError
from dockstack.oci.documents import Digest, ImageRejected
from dockstack.oci.normalised import NormalisedImage, Verdict
from dockstack.oci.process import ImageConfig
from dockstack.oci.spool import Extent, WorkspaceFull, open_spools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from dockstack.oci.streams import ImageLimits

READY = b"\n"  # what the other process says when its limits are set: from here on, its end is the image's fault
ANSWER_BYTES = 1 << 20
_PROGRAM = "dockstack.oci"
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
    """Read an image archive whole and check it; nothing of it stays in the workspace after ``close`` or an error.

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
        answer = _Check({"task": "image", "architecture": architecture}, limits, spools, timeout).run(chunks)
        with _understanding():
            verdict = _verdict(spools, **answer["image"])
        return NormalisedImage(verdict, spools, stack.pop_all())


@contextmanager
def measuring(*, limits: ImageLimits, timeout: float) -> Iterator[Callable[[Iterable[bytes]], tuple[Digest, int]]]:
    """Start what reads a root file system, checks it as a layer and returns its digest and size.

    It is made ready (a tenth of a second) while the body gets the files together; what it is given is a tar in chunks.

    Args:
        limits: what hosts accept.
        timeout: seconds until both reading and checking must be done, once it is called.

    Raises:
        Exception: as ``normalise``, also when it is called; that is possible once.
    """
    check = _Check({"task": "layer"}, limits, (), timeout)

    def measure(chunks: Iterable[bytes]) -> tuple[Digest, int]:
        answer = check.run(chunks)
        with _understanding():
            return Digest.parse(answer["layer"]["digest"]), int(answer["layer"]["size"])

    try:
        yield measure
    finally:
        check.end()


class _Check:
    """One check."""

    def __init__(self, request: dict[str, Any], limits: ImageLimits, spools: Sequence[int], timeout: float) -> None:
        self._deadline = float("inf")
        self._timeout = timeout
        seconds = max(_MINIMUM_SECONDS, int(timeout))
        arguments = json.dumps(request | {"limits": asdict(limits), "spools": list(spools), "seconds": seconds})
        try:
            self._process = confinement.start(_PROGRAM, [arguments], spools, piped=True)
        except OSError as error:
            raise _cannot(str(error)) from error

    def run(self, chunks: Iterable[bytes]) -> dict[str, Any]:
        """Pass the input on and return the answer.

        Raises:
            Exception: as ``normalise``.
        """
        self._deadline = time.monotonic() + self._timeout
        try:
            feeder = _Feeder(self._process, chunks)
            feeder.start()
            said = self._listen(feeder)
            self._await_end(feeder)
            if feeder.error is not None:
                raise feeder.error
            return self._judge(said)
        finally:
            self.end()

    def _listen(self, feeder: _Feeder) -> bytes:
        """Read all that the other process says, until it ends or the time is over."""
        said = b""
        output = _descriptor(self._process.stdout)
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while len(said) <= ANSWER_BYTES + len(READY):
                left = self._deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise self._late(feeder)
                data = os.read(output, 65536)
                if not data:
                    break
                said += data
        return said

    def _await_end(self, feeder: _Feeder) -> None:
        """Wait for the end of a process that says no more; one that was taken over may stay."""
        try:
            self._process.wait(max(0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise self._late(feeder) from error

    def _late(self, feeder: _Feeder) -> DockstackError:
        if not feeder.done:
            return InputTooSlow(f"The image was not here within {self._timeout:g} s.", "Look what slows its way down.")
        return ImageRejected(
            f"The image could not be checked within {self._timeout:g} s.",
            "Make it smaller or compress it less; on a slow host, raise [docker] image_timeout.",
        )

    def _judge(self, said: bytes) -> dict[str, Any]:
        if not said.startswith(READY):
            raise _cannot(os.read(_descriptor(self._process.stderr), _ERRORS).decode(errors="replace"))
        if len(said) == len(READY):
            raise _ended(self._process.returncode)
        with _understanding():
            answer: dict[str, Any] = json.loads(said)
            for kind, said_of in answer.items():
                if kind in _FAULTS:
                    raise _FAULTS[kind](said_of)
        return answer

    def end(self) -> None:
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


def _verdict(
    spools: Sequence[int], *, engine_id: str, config: dict[str, Any], size: int, layers: list[Any], extents: list[Any]
) -> Verdict:
    """Read what the other process says of a sound image."""
    lists = {name: tuple(config[name]) for name in ("command", "entrypoint", "volumes")}
    places = tuple(Extent(int(spool), int(offset), int(length), str(layer)) for spool, offset, length, layer in extents)
    for place in places:
        if (
            min(place.spool, place.offset, place.size) < 0
            or place.offset + place.size > os.fstat(spools[place.spool]).st_size
        ):
            raise ValueError(f"there is no {place}")
    stack = tuple(str(Digest.parse(layer)) for layer in layers)
    return Verdict(str(Digest.parse(engine_id)), ImageConfig(**(config | lists)), int(size), stack, places)


@contextmanager
def _understanding() -> Iterator[None]:
    """Take an answer that makes no sense for a refusal: an image that takes the other process over is no sound one."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ImageRejected("The image's check gave no sensible answer.", _BROKEN, str(error)) from error


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
