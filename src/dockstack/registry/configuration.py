# SPDX-License-Identifier: Apache-2.0
"""What the registry is told: one file of root's, which holds its passwords."""

from __future__ import annotations

import configparser
from dataclasses import dataclass, field, fields
from pathlib import Path

from dockstack.errors import DockstackError

SECTION = "registry"


@dataclass(frozen=True)
class Configuration:
    """The registry of one cloud.

    Attributes:
        address: where it listens, in the clear; whatever others come in by stands in front of it.
        port: its port.
        url: how clients reach it.
        archive_url: how Glance reaches it.
        identity_url: Keystone's address, with the version.
        image_url: Glance's address.
        authority: the file of whom it trusts there; "": whom this system trusts.
        username: its account at Keystone, in the project "service" of the domain "Default".
        password: the account's.
        database: SQLAlchemy's address of its database.
        directory: where it keeps blobs, uploads and what it works on.
        secret: what its tokens and the addresses of archives are signed with.
        max_blob_bytes: the largest blob that it takes.
        max_unfinished_bytes: what a project may have uploaded that no manifest holds yet.
        max_uploads: how many uploads of a project may be open.
        grace_seconds: how long what nobody holds is kept: open uploads, blobs, manifests without an image.
    """

    database: str = field(repr=False)
    directory: Path
    secret: str = field(repr=False)
    identity_url: str
    image_url: str
    password: str = field(repr=False)
    username: str = "registry"
    address: str = "127.0.0.1"
    port: int = 5005
    url: str = "http://127.0.0.1:5005"
    archive_url: str = "http://127.0.0.1:5005"
    authority: str = ""
    max_blob_bytes: int = 50 << 30
    max_unfinished_bytes: int = 50 << 30
    max_uploads: int = 100
    grace_seconds: int = 86400

    @classmethod
    def read(cls, path: str) -> Configuration:
        """Read the file.

        Raises:
            DockstackError: it is not there, or something is missing in it.
        """
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(Path(path).read_text())
            said = dict(parser[SECTION])
            kinds = {known.name: known.type for known in fields(cls)}
            values = {name: _READERS[str(kinds[name])](text) for name, text in said.items()}
            return cls(**values)
        except (OSError, configparser.Error, KeyError, ValueError, TypeError) as error:
            raise DockstackError(
                f"{path} is no configuration of the registry.", "`dockstack up` writes it anew.", str(error)
            ) from error


_READERS = {"str": str, "int": int, "Path": Path}
