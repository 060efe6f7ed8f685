# SPDX-License-Identifier: Apache-2.0
"""Secrets of the cloud: generated once, kept in one file that only root reads, and redacted from all that is shown."""

from __future__ import annotations

import fcntl
import os
import re
import secrets as random_source
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from dockstack.deploy.atomic_write import write_atomically
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SECRET_BYTES = 24
SHORTEST_REDACTED = 8
URL_PASSWORD = re.compile(r"(?<=://)([^:/@\s]+):([^@/\s]+)@")


class Secrets:
    """Named secrets; asking for a new name makes one and keeps it."""

    def __init__(self, path: str | Path) -> None:
        """Use the file at ``path``; it is made with the first secret."""
        self._path = Path(path)
        self._values: dict[str, str] = {}

    def get(self, name: str) -> str:
        """Return the secret of that name, made of letters and digits so that it fits into URLs and INI files."""
        if name not in self._values:
            with self._locked():
                self._values = self._read()
                if name not in self._values:
                    self._values[name] = random_source.token_hex(SECRET_BYTES)
                    write_atomically(self._path, yaml.safe_dump(self._values, default_flow_style=False), mode=0o600)
        return self._values[name]

    def values(self) -> tuple[str, ...]:
        """Return all secrets that exist, for redaction."""
        return tuple(self._read().values())

    def redact(self, text: str) -> str:
        """Return the text without any of our secrets and without passwords in URLs."""
        for value in self.values():
            if len(value) >= SHORTEST_REDACTED:
                text = text.replace(value, "********")
        return URL_PASSWORD.sub(r"\1:********@", text)

    def _read(self) -> dict[str, str]:
        try:
            document = yaml.safe_load(self._path.read_text())
        except FileNotFoundError:
            return {}
        except yaml.YAMLError as error:
            raise DockstackError(
                f"{self._path} is damaged.", "Restore it from a backup; without it the databases cannot be opened."
            ) from error
        return {str(name): str(value) for name, value in (document or {}).items()}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class GivenSecrets(Secrets):
    """Secrets that somebody else made, for redaction; there is no file, and asking for another makes none."""

    def __init__(self, values: Iterable[str]) -> None:
        """Know these."""
        self._given = tuple(values)

    def get(self, name: str) -> str:
        """Refuse: what is not given is not meant for this machine.

        Raises:
            KeyError: always.
        """
        raise KeyError(name)

    def values(self) -> tuple[str, ...]:
        """Return all of them."""
        return self._given
