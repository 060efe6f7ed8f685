# SPDX-License-Identifier: Apache-2.0
"""Packages of a baked cloud: a directory that apt takes for a mirror; and how it is asked to install from that alone.

It is apt that installs them, so that it knows what came along for what: ``clean``, upgrades and a person find a machine
like any other. Files are not forced to the disk one by one: if power fails, dpkg knows what was half there.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import lzma
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import zstandard

from dockstack.deploy import paths
from dockstack.deploy.node.baked import PACKAGES
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dockstack.deploy.node.baked import Archive
    from dockstack.deploy.node.output import Output

DIRECTORY = f"{paths.BAKED}/{PACKAGES}"
_INDEX = "Packages"
_SOURCES = "sources.list"
_READ = "read"  # is there when apt has read the index
_AR, _HEADER = b"!<arch>\n", 60
_DECODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "xz": lzma.decompress,
    "gz": gzip.decompress,
    "zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
_DOWNLOAD_LIMIT = 600  # seconds that apt may take, mirrors being slow at times
_READERS = 2
_UNFORCED = ("-o", "Dpkg::Options::=--force-unsafe-io", "-o", "Dpkg::Options::=--force-confold")


class Installer(Protocol):
    """What a connected node does for an installation."""

    def run(self, command: str | Sequence[str], *, check: bool = ...) -> Output:
        """Run a command that asks."""

    def command(self, command: str | Sequence[str], *, environment: Mapping[str, str] | None = ...) -> bool:
        """Run a command that changes something."""

    def say(self, text: str) -> None:
        """Tell the person what is going on."""


def install(names: Sequence[str], archive: Archive, node: Installer, directory: str = DIRECTORY) -> bool:
    """Install packages out of an archive; False if they do not do here."""
    with _alone(Path(directory).parent):
        if not Path(directory, _READ).exists():
            archive.unpack(PACKAGES, Path(directory))
            node.run(update_line(directory))
    if not node.run(install_line(names, directory, simulate=True), check=False).ok:
        node.say("The archive's packages do not suffice here: the mirror is asked")
        return False
    return node.command(install_line(names, directory), environment={"DEBIAN_FRONTEND": "noninteractive"})


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let one stage at a time do something in a directory: apt itself does not wait when two read one index."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def update_line(directory: str = DIRECTORY) -> str:
    """Return the line that has apt read the index; it asks no mirror."""
    places = f"{directory}/lists/partial {directory}/cache/archives/partial"
    source = f"deb [trusted=yes] file:{directory}/ ./"
    read = " ".join(("apt-get", "-q", *_only(directory), "update"))
    return f"mkdir -p {places} && echo '{source}' > {directory}/{_SOURCES} && {read} && touch {directory}/{_READ}"


def install_line(names: Sequence[str], directory: str = DIRECTORY, *, simulate: bool = False) -> list[str]:
    """Return the line that installs packages; with ``simulate``, the question whether it could."""
    what = ["--simulate"] if simulate else ["-o", "DPkg::Lock::Timeout=600", *_UNFORCED]
    return ["apt-get", "-qy", *_only(directory), "install", "--no-install-recommends", *what, *names]


def collect(names: Sequence[str], directory: Path) -> None:
    """Download packages with all that they need on the emptiest machine, and write the index.

    Raises:
        DockstackError: apt cannot get them.
    """
    (directory / "partial").mkdir(parents=True)
    nothing = directory / "status"
    nothing.touch()
    options = (
        *("Dir::State::status=" + str(nothing), "Dir::Cache::archives=" + str(directory)),
        *("Debug::NoLocking=1", "APT::Sandbox::User=root", "Acquire::Retries=3"),
    )
    line = ["apt-get", "-qy", "--no-install-recommends", "--download-only"]
    _run([*line, *(part for option in options for part in ("-o", option)), "install", *names])
    nothing.unlink()
    (directory / "partial").rmdir()
    with ThreadPoolExecutor(_READERS) as pool:
        entries = list(pool.map(_entered, sorted(directory.glob("*.deb"))))
    (directory / _INDEX).write_text("\n".join(entries))


def _entered(package: Path) -> str:
    """Have a package without its compression; return what the index says of it: its own words, and the file's."""
    content = package.read_bytes()
    plain = uncompressed(content)
    if plain is not None:
        package.write_bytes(plain)
    digest = hashlib.sha256(plain or content).hexdigest()
    described = _run(["dpkg-deb", "--field", str(package)]).rstrip("\n")
    return f"{described}\nFilename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n"


def uncompressed(package: bytes) -> bytes | None:
    """Return a package whose files are not compressed; None if they are so in a way that is not known here.

    The archive compresses all packages at once, and better, and whoever installs them saves what xz takes. What dpkg
    unpacks is the same to the bit (deb(5): an ar archive of three members, data.tar.* the last).
    """
    position, plain = len(_AR), bytearray(_AR)
    while position < len(package):
        header = package[position : position + _HEADER]
        name, size = header[:16].decode().strip().rstrip("/"), int(header[48:58])
        data = package[position + _HEADER : position + _HEADER + size]
        position += _HEADER + size + size % 2
        if name.startswith("data.tar."):
            decoder = _DECODERS.get(name.rpartition(".")[2])
            if decoder is None:
                return None
            name, data = "data.tar", decoder(data)
        plain += f"{name:<16}".encode() + header[16:48] + f"{len(data):<10}".encode() + header[58:]
        plain += data + b"\n" * (len(data) % 2)
    return bytes(plain)


def _only(directory: str) -> list[str]:
    options = (
        *(f"Dir::Etc::sourcelist={directory}/{_SOURCES}", "Dir::Etc::sourceparts=/dev/null"),
        *(f"Dir::State::lists={directory}/lists", f"Dir::Cache={directory}/cache"),
        *("APT::Sandbox::User=root", "Acquire::Languages=none"),
    )
    return [part for option in options for part in ("-o", option)]


def _run(line: Sequence[str]) -> str:
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_LIMIT)
    if done.returncode:
        raise DockstackError(
            f"{line[0]} could not get the packages.",
            "Run `apt-get update` and try again; the package mirror must be reachable.",
            done.stderr[-2000:],
        )
    return done.stdout
