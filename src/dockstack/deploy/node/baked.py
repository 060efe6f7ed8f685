# SPDX-License-Identifier: Apache-2.0
"""A baked cloud: the archive that ``dockstack bake`` writes and from which ``up --from`` takes what it would fetch.

The file is a series of zstd frames. The first holds one small tar with ``bake.json``, which says what the archive is
for and lists the parts behind it; each part is a tar of its own, found by its offset, and compared with its digest
while it is unpacked. So that one stage can unpack the packages while another unpacks the services' code.

The digests find damage. They say nothing about who wrote the archive: it holds code that root will run, and is to be
trusted as dockstack itself is.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

import zstandard

from dockstack.deploy.atomic_write import sync_directory
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

FORMAT = 1
CONTENTS = "bake.json"
OPENSTACK, COMMAND_LINE, PACKAGES, DATABASES, BASE_IMAGE = "openstack", "cli", "packages", "databases", "base-image"
LARGEST_CONTENTS = 1 << 20
_CHUNK = 1 << 20
_LEVEL = 9
# Whatever an archive says: no devices, and nobody's files but root's. GNU tar itself refuses names with .. in them,
# takes the first slash off others, and makes links that lead outside only when all else is unpacked.
_EXTRACT = ("setpriv", "--bounding-set=-mknod", "tar", "--extract", "--no-same-owner", "--no-same-permissions")
_QUIET = "--warning=no-timestamp"  # a machine's clock may be behind the baker's
_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


class BakedError(DockstackError):
    """An archive cannot be used; nothing was changed."""


@dataclass(frozen=True)
class Origin:
    """What an archive was made by and for; a machine takes only one whose origin is its own.

    Attributes:
        dockstack: the hash of the running version's files.
        release: of OpenStack.
        distribution: as distributions.py names it.
        architecture: the kernel's name for it ("x86_64").
        python: the interpreter's version, whose byte-code is in it ("3.11").
    """

    dockstack: str
    release: str
    distribution: str
    architecture: str
    python: str


@dataclass(frozen=True)
class Part:
    """One tar of an archive.

    Attributes:
        name: one of the constants above.
        offset: of its first byte behind the contents' frame.
        size: in the file, bytes.
        sha256: of those bytes.
        unpacked: bytes that its files take, about.
    """

    name: str
    offset: int
    size: int
    sha256: str
    unpacked: int


@dataclass(frozen=True)
class Archive:
    """An archive on this machine's disk, whose contents were read."""

    path: Path
    origin: Origin
    parts: tuple[Part, ...]
    start: int  # of the first part in the file

    @classmethod
    def read(cls, path: Path) -> Archive:
        """Read what an archive says of itself.

        Raises:
            BakedError: it is not there, or is none.
        """
        try:
            with path.open("rb") as file:
                text, start = _first_frame(file)
            contents = json.loads(text)
            if contents["format"] != FORMAT:
                raise BakedError(f"{path} was baked by another version of dockstack.", "Bake it again with this one.")
            parts = tuple(Part(**part) for part in contents["parts"])
            return cls(path, Origin(**contents["origin"]), parts, start)
        except OSError as error:
            raise _unreadable(path, error) from error
        except (zstandard.ZstdError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
            raise BakedError(f"{path} is no archive of `dockstack bake`.", "Name one; or bake it again.") from error

    def part(self, name: str) -> Part:
        """Return a part.

        Raises:
            BakedError: there is none of that name.
        """
        for part in self.parts:
            if part.name == name:
                return part
        raise BakedError(f"{self.path} has no part {name}.", "Bake it again.")

    def require(self, wanted: Origin) -> None:
        """Refuse an archive that was made for something else.

        Raises:
            BakedError: naming the first difference.
        """
        for name, value in asdict(wanted).items():
            found = getattr(self.origin, name)
            if found != value:
                short = [text[:12] for text in (str(found), value)]
                raise BakedError(
                    f"{self.path} was baked for {name} {short[0]}, and this is {short[1]}.",
                    "Bake it with this version of dockstack on a machine like this one, or leave --from away.",
                )

    @property
    def identity(self) -> str:
        """A hash of what the archive says of itself: another archive has another one."""
        return hashlib.sha256(_contents(self.origin, self.parts)).hexdigest()

    def verify(self) -> None:
        """Compare every part with its digest.

        Raises:
            BakedError: the file is damaged.
        """
        for part in self.parts:
            with self._open(part) as stream:
                while stream.read(_CHUNK):
                    pass

    def unpack(self, name: str, place: Path) -> None:
        """Have a part's tree at a place, whole and on the disk, or not at all; what stood there goes.

        Raises:
            BakedError: the part is damaged, or there is no room; the place is as it was.
        """
        staging = place.with_name(f".{place.name}.baked")
        part = self.part(name)
        try:
            shutil.rmtree(staging, ignore_errors=True)  # a killed run's
            staging.mkdir(parents=True, mode=0o700)
            self._extract(part, staging)
            _sync(staging)
            _exchange(staging / name, place)
        except OSError as error:
            raise self._unplaced(place, str(error)) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _extract(self, part: Part, directory: Path) -> None:
        """Have tar unpack a part, and judge it by the digest: a failure with a whole part is the disk's."""
        with tempfile.TemporaryFile() as said:
            with self._open(part) as stream:
                status = _feed([*_EXTRACT, _QUIET, f"--directory={directory}"], stream, said)
                while stream.read(_CHUNK):
                    pass  # what tar did not want any more
            if status:
                said.seek(0)
                raise self._unplaced(directory, said.read().decode(errors="replace")[-2000:])

    @contextmanager
    def _open(self, part: Part) -> Iterator[_Hashed]:
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise _unreadable(self.path, error) from error
        with file:
            file.seek(self.start + part.offset)
            stream = _Hashed(file, part.size)
            yield stream
            if stream.left or stream.digest() != part.sha256:
                raise self._damaged()

    def _damaged(self) -> BakedError:
        return BakedError(f"{self.path} is damaged.", "Copy or bake it again.")

    def _unplaced(self, place: Path, details: str) -> BakedError:
        cure = f"Make room there, as `df -h {place.parent}` and `df -i {place.parent}` show it, and try again."
        return BakedError(f"{self.path} could not be unpacked in {place.parent}.", cure, details)


class _Hashed:
    """A bounded reader that remembers the digest of what was read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        """Read at most ``size`` bytes of a file from where it stands."""
        self._file = file
        self._state = hashlib.sha256()
        self.left = size

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; none at the end."""
        data = self._file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(data)
        self._state.update(data)
        return data

    def digest(self) -> str:
        """Return the digest so far."""
        return self._state.hexdigest()


def _first_frame(file: BinaryIO) -> tuple[bytes, int]:
    """Return the text of the contents and where the frame that holds them ends."""
    head = file.read(LARGEST_CONTENTS)
    decoder = zstandard.ZstdDecompressor().decompressobj()
    plain = decoder.decompress(head)
    if not decoder.eof:
        raise ValueError("the first frame does not end")
    with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as inner:
        member = inner.extractfile(CONTENTS)
        if member is None:
            raise ValueError("no contents")
        return member.read(), len(head) - len(decoder.unused_data)


def _unreadable(path: Path, error: OSError) -> BakedError:
    cure = "Name a file of `dockstack bake`; without --from, `dockstack up` fetches what it needs."
    return BakedError(f"{path} cannot be read: {error.strerror}.", cure)


def _feed(line: list[str], stream: _Hashed, said: IO[bytes]) -> int:
    """Give a program what a part unpacks to; return its status. What it says goes to a file: a pipe would fill up."""
    with subprocess.Popen(line, stdin=subprocess.PIPE, stderr=said) as program:
        assert program.stdin is not None  # noqa: S101 - it was asked for above
        try:
            with program.stdin as pipe:
                zstandard.ZstdDecompressor().copy_stream(cast("BinaryIO", stream), pipe, write_size=_CHUNK)
        except (zstandard.ZstdError, BrokenPipeError):
            program.kill()
    return program.returncode


def _sync(directory: Path) -> None:
    """Have all below a directory on the disk, by its file system: what says later that a part is there is durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _LIBC.syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)


def _exchange(new: Path, place: Path) -> None:
    """Have a new tree at a place, and what stood there where the new one was; there is no moment without either."""
    if not place.exists():
        new.rename(place)
    elif _LIBC.renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(place), _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write(path: Path, origin: Origin, trees: Mapping[str, Path], say: Callable[[str], None], *, work: Path) -> Archive:
    """Write an archive, whole or not at all.

    Args:
        path: of the archive.
        origin: what it is for.
        trees: part -> the file or directory that becomes it, under the part's name.
        say: told which part is being written.
        work: a directory on the same file system, for what is half done; the caller removes it.
    """
    behind, whole = work / "parts", work / "whole"
    parts: list[Part] = []
    with behind.open("wb") as file:
        for name, tree in trees.items():
            say(f"Packing {name}")
            parts.append(_pack(file, name, tree))
    with whole.open("wb") as file, behind.open("rb") as rest:
        file.write(_frame(_contents(origin, parts)))
        shutil.copyfileobj(rest, file, _CHUNK)
        file.flush()
        os.fsync(file.fileno())
    whole.replace(path)
    sync_directory(path.parent)
    return Archive.read(path)


def _contents(origin: Origin, parts: Sequence[Part]) -> bytes:
    contents = {"format": FORMAT, "origin": asdict(origin), "parts": [asdict(part) for part in parts]}
    return json.dumps(contents, indent=1).encode()


def _frame(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as inner:
        info = tarfile.TarInfo(CONTENTS)
        info.size = len(text)
        inner.addfile(info, io.BytesIO(text))
    return zstandard.ZstdCompressor(level=_LEVEL).compress(buffer.getvalue())


def _pack(file: BinaryIO, name: str, tree: Path) -> Part:
    """Append a tree as a part; owners do not matter, for whoever unpacks gives each file its own."""
    offset = file.tell()
    rename = f"--transform=s,^{tree.name},{name},rSh"  # links' targets stay as they are
    line = ["tar", "--create", "--sort=name", "--numeric-owner", "--owner=0", "--group=0", rename]
    compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=-1, write_checksum=True)
    with subprocess.Popen([*line, f"--directory={tree.parent}", tree.name], stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None  # noqa: S101 - it was asked for above
        unpacked, size = compressor.copy_stream(tar.stdout, file, read_size=_CHUNK)
    if tar.returncode:
        raise BakedError(f"{tree} could not be packed.", "See what tar says above.")
    file.flush()
    with Path(file.name).open("rb") as written:
        written.seek(offset)
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    return Part(name, offset, size, digest, unpacked)
