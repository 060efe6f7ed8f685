# SPDX-License-Identifier: Apache-2.0
"""Bring the running dockstack onto nodes: one question, and where it is missing, one command with all on its input."""

from __future__ import annotations

import base64
import io
import tarfile
import threading
from functools import cached_property
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import scripts
from dockstack.deploy.join import look
from dockstack.deploy.node import environments, own_package
from dockstack.deploy.node.output import CHANGE_LIMIT, limited, tail
from dockstack.deploy.node.shell import patience
from dockstack.deploy.run.lock import LOCK_FILE
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.distributions import Distribution
    from dockstack.deploy.node.connection import Connection

SCRIPT = "make-command-line"
LOCK = "cli"


class CommandLine:
    """The dockstack that runs here, as nodes get it; it is packed once for all of them, and only if one lacks it."""

    def __init__(
        self,
        environment: str = paths.CLI_VENV,
        uv: str = environments.NODE_UV,
        state: str = paths.STATE_DIRECTORY,
        guard: str = LOCK_FILE,
    ) -> None:
        """Have it at these places of a node; ``guard`` is the lock of whoever changes what is there."""
        self.python = f"{environment}/bin/python"
        self._places = {"environment": environment, "uv": uv, "state": state, "guard": guard}
        self._packing = threading.Lock()

    def is_on(self, connection: Connection) -> bool:
        """Tell whether a node has exactly this one."""
        place = self._places["environment"]
        marks = f"cat {place}/.dockstack-lock {place}/.dockstack-wheel 2>/dev/null"
        found = look.ask(connection, f"test -e {place}/.dockstack-unfinished || {marks}; :").lines
        return found == [self._lock, self._version]

    def ship(self, connection: Connection, distribution: Distribution) -> None:
        """Send it to a node, and have the node make its environment; killed at any moment, it is done again.

        Raises:
            DockstackError: the node could not.
        """
        script = scripts.render(
            SCRIPT,
            **self._places,
            python=distribution.python,
            packages=distribution.packages_of("venv"),
            install=distribution.manager.install,
            index=environments.index_environment().get("UV_DEFAULT_INDEX", ""),
            lock=self._lock,
            version=self._version,
        )
        with self._packing:
            archive = self._archive
        try:
            done = connection.run(limited(script, CHANGE_LIMIT), archive, patience(CHANGE_LIMIT))
        except TimeoutError as error:
            brief = f"{connection.node.name} has not made dockstack's environment within {CHANGE_LIMIT} s."
            raise DockstackError(brief, "Does its package index answer? Then run the command again.") from error
        if not done.ok:
            raise DockstackError(
                f"{connection.node.name} could not make dockstack's environment.",
                "Correct the cause that stands above: a node needs the package index and its distribution's archive. "
                "Then run the command again: it goes on from here.",
                tail(f"{done.stdout}\n{done.stderr}"),
            )

    @cached_property
    def _lock(self) -> str:
        return own_package.lock_digest(LOCK)

    @cached_property
    def _version(self) -> str:
        return own_package.source_hash()

    @cached_property
    def _archive(self) -> str:
        """The lock, its entry for uv, and the wheel."""
        name, wheel = own_package.named_wheel()
        uv = environments.lock_entry(LOCK, "uv")
        files = {"cli.txt": own_package.lock_text(LOCK).encode(), "uv.txt": uv.encode(), name: wheel}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
        return base64.encodebytes(packed.getvalue()).decode()
