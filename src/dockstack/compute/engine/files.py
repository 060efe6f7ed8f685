# SPDX-License-Identifier: Apache-2.0
"""Files inside a container, running or not. The engine resolves every path within the container's own root."""

from __future__ import annotations

import base64
import json
import tarfile
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from dockstack.compute.engine import faults
from dockstack.compute.engine.connection import Connection
from dockstack.compute.engine.faults import message_of, translated
from dockstack.compute.engine.records import GuestFile
from dockstack.compute.engine.streams import guarded

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH_STAT = "X-Docker-Container-Path-Stat"


class Files(Connection):
    """What an engine does with a container's files."""

    def put_archive(self, name: str, path: str, archive: bytes, *, keep_kinds: bool = False) -> None:
        """Unpack a tar archive below ``path`` inside a container.

        Args:
            name: the container.
            path: a directory of it.
            archive: an uncompressed tar.
            keep_kinds: fail rather than replace a directory with something else, or the reverse.

        Raises:
            EngineError: refused, for example because a directory is in the way.
        """
        action = f"writing files into container {name}"
        params = {"path": path, "noOverwriteDirNonDir": "1" if keep_kinds else "0"}
        with translated(action):
            answer = self._client().put(self._archive_url(name), params=params, data=archive, timeout=self.timeout)
        if not answer.ok:
            raise faults.of_status(action, answer.status_code, message_of(answer.content))

    def get_archive(self, name: str, path: str) -> Iterator[bytes]:
        """Stream ``path`` inside a container as a tar archive."""
        action = f"reading files of container {name}"
        with translated(action):
            chunks, _ = self._client().get_archive(name, path)
        return guarded(action, chunks)

    def has_path(self, name: str, path: str) -> bool:
        """Whether there is anything at ``path`` inside a container."""
        return bool(self.resolve(name, path))

    def resolve(self, name: str, path: str) -> str:
        """Return where a path of a container leads, with all its links followed; empty if there is nothing."""
        action = f"looking for {path} in container {name}"
        with translated(action):
            answer = self._client().head(self._archive_url(name), params={"path": path}, timeout=self.timeout)
        if answer.status_code not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
            raise faults.of_status(action, answer.status_code, answer.reason)
        if not answer.ok:
            return ""
        try:
            return str(json.loads(base64.b64decode(answer.headers[_PATH_STAT])).get("linkTarget") or path)
        except (KeyError, ValueError, AttributeError) as error:
            raise faults.unavailable(action, error) from error

    def read_file(self, name: str, path: str, limit: int) -> GuestFile | None:
        """Read a file inside a container; None if there is none, or if it is no plain file or a larger one.

        Args:
            name: the container.
            path: the file; a symbolic link is not followed at its last step.
            limit: the largest size to read, in bytes.
        """
        action = f"reading {path} of container {name}"
        with translated(action):
            answer = self._client().get(
                self._archive_url(name),
                params={"path": path},
                headers={"Accept-Encoding": "identity"},
                stream=True,
                timeout=self.timeout,
            )
            try:
                if answer.status_code == HTTPStatus.NOT_FOUND:
                    return None
                if not answer.ok:
                    raise faults.of_status(action, answer.status_code, message_of(answer.content))
                return _first_file(answer.raw, limit)
            finally:
                answer.close()

    def _archive_url(self, name: str) -> str:
        client = self._client()
        return f"{client.base_url}/v{client.api_version}/containers/{name}/archive"


def _first_file(stream: Any, limit: int) -> GuestFile | None:
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            member = archive.next()
            if member is None or not member.isreg() or member.size > limit:
                return None
            content = archive.extractfile(member)
            data = content.read() if content is not None else b""
    except (tarfile.TarError, EOFError) as error:  # the answer was cut off, or is none
        raise faults.unavailable("reading a file", error) from error
    return GuestFile(data, member.mode, member.uid, member.gid)
