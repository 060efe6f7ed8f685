# SPDX-License-Identifier: Apache-2.0
"""Files for a server as a tar archive, which the engine unpacks within the container's own root."""

from __future__ import annotations

import io
import posixpath
import tarfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dockstack.compute.guest.accounts import Account
    from dockstack.compute.model import InjectedFile

_LONGEST = 4095  # PATH_MAX


class PlacementError(DockstackError):
    """A file cannot be placed where it is wanted."""


@dataclass(frozen=True)
class Entry:
    """One file or directory.

    Attributes:
        path: relative to the root, normalised.
        data: a file's content; a directory has none.
    """

    path: str
    mode: int
    data: bytes | None = None
    uid: int = 0
    gid: int = 0


def build_archive(entries: Iterable[Entry]) -> bytes:
    """Write entries as a tar, in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
            info.type = tarfile.DIRTYPE if entry.data is None else tarfile.REGTYPE
            info.size = len(entry.data or b"")
            archive.addfile(info, io.BytesIO(entry.data or b""))
    return buffer.getvalue()


def key_path(account: Account) -> str:
    """Return where sshd looks for the account's keys."""
    return posixpath.join(account.home, ".ssh/authorized_keys")


def place_key(account: Account, key: str, existing: bytes) -> tuple[Entry, Entry]:
    """Let the owner of a key log in to an account; keys that are there stay.

    The directory is an entry, too: whatever an image has in its place, such as a link, gives way to it.

    Args:
        account: whose.
        key: a public key in OpenSSH's format.
        existing: what the file holds now.
    """
    path = key_path(account).lstrip("/")
    lines = existing.decode("utf-8", "surrogateescape").splitlines()
    wanted = [line for line in key.splitlines() if line.strip() and line not in lines]
    text = "".join(f"{line}\n" for line in (*lines, *wanted)).encode("utf-8", "surrogateescape")
    directory = Entry(posixpath.dirname(path), 0o700, None, account.uid, account.gid)
    return directory, replace(directory, path=path, mode=0o600, data=text)


def place_file(file: InjectedFile) -> Entry:
    """Place a file of the owner's; it belongs to root, and everybody may read it, as on other hypervisors.

    Raises:
        PlacementError: its path is none.
    """
    path = posixpath.normpath("/" + file.path.lstrip("/")).lstrip("/")
    if not path or "\0" in path or file.path.endswith("/") or len(path.encode("utf-8", "replace")) > _LONGEST:
        raise PlacementError(f"{file.path!r} is no path of a file.", "Give each injected file an absolute path.")
    return Entry(path, 0o644, file.content)
