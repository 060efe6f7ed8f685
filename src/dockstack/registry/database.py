# SPDX-License-Identifier: Apache-2.0
"""The registry's tables.

What is a stranger's (names, tags, digests) is compared byte by byte, so that ``Latest`` is not ``latest``.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from dockstack.errors import DockstackError

VERSION = 1
"""Counts the changes of these tables; the first one comes with what brings a database from version 1 to 2."""

_metadata = sa.MetaData()
_BYTEWISE = {"mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
_DIGEST = sa.String(135)
_CONTENT = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _table(name: str, *columns: Any) -> Any:
    return sa.Table(name, _metadata, *columns, **_BYTEWISE)


version = _table("version", sa.Column("number", sa.Integer, nullable=False))

project = _table(  # those that have pushed: other projects' names lead to them
    "project",
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, index=True),
)

repository = _table(
    "repository",
    sa.Column("id", _NUMBER, primary_key=True),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.UniqueConstraint("project_id", "name"),
)

blob = _table(  # what is on the disk
    "blob",
    sa.Column("digest", _DIGEST, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created", sa.Float(53), nullable=False),
)

link = _table(  # which repository has shown that it has a blob: by sending it, or by reading it elsewhere
    "link",
    sa.Column("repository_id", _NUMBER, primary_key=True, autoincrement=False),
    sa.Column("digest", _DIGEST, primary_key=True, index=True),
    sa.Column("created", sa.Float(53), nullable=False),
)

upload = _table(
    "upload",
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("repository_id", _NUMBER, nullable=False),
    sa.Column("project_id", sa.String(64), nullable=False, index=True),
)

manifest = _table(
    "manifest",
    sa.Column("id", _NUMBER, primary_key=True),
    sa.Column("repository_id", _NUMBER, nullable=False),
    sa.Column("digest", _DIGEST, nullable=False),
    sa.Column("media_type", sa.String(255), nullable=False),
    sa.Column("content", _CONTENT, nullable=False),
    sa.Column("subject", _DIGEST, nullable=False, index=True),  # "": of none
    sa.Column("created", sa.Float(53), nullable=False),
    sa.UniqueConstraint("repository_id", "digest"),
)

reference = _table(  # which blobs and manifests of its repository a manifest holds
    "reference",
    sa.Column("manifest_id", _NUMBER, primary_key=True, autoincrement=False),
    sa.Column("digest", _DIGEST, primary_key=True, index=True),
)

image = _table(  # which images of Glance stand for a manifest; pending: nobody was told yet that it is there
    "image",
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("manifest_id", _NUMBER, primary_key=True, index=True, autoincrement=False),
    sa.Column("tag", sa.String(128), nullable=False),  # "": it was pushed by its digest
    sa.Column("pending", sa.Boolean, nullable=False),
    sa.Column("adopted", sa.Boolean, nullable=False),  # its bytes are Glance's; what is here is a copy of them
    sa.Column("created", sa.Float(53), nullable=False),
)

tag = _table(
    "tag",
    sa.Column("repository_id", _NUMBER, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("image_id", sa.String(36), nullable=False, index=True),
)


def connect(url: str) -> Any:
    """Return an engine for a database whose tables are there, made now if it is empty.

    Raises:
        DockstackError: they are another version's.
    """
    options: dict[str, Any] = {"pool_pre_ping": True, "pool_recycle": 3600}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": 30}
    else:
        # One that hangs shall not take a thread for good.
        patience = {"connect_timeout": 10, "read_timeout": 60, "write_timeout": 60}
        options |= {"pool_size": 5, "max_overflow": 25, "connect_args": patience}
    engine = sa.create_engine(url, **options)
    _metadata.create_all(engine)
    with engine.begin() as connection:
        found = connection.execute(sa.select(version.c.number)).scalar()
        if found is None:
            connection.execute(version.insert().values(number=VERSION))
        elif found != VERSION:
            raise DockstackError(
                f"The registry's database is of version {found}; this program knows version {VERSION}.",
                "Run the dockstack that wrote it, or a later one.",
            )
    return engine
