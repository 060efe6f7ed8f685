# SPDX-License-Identifier: Apache-2.0
"""What is recorded of a node's services: their definitions, and the hash with which each was last started."""

from __future__ import annotations

import json
from pathlib import Path

from dockstack.deploy import paths
from dockstack.deploy.atomic_write import write_atomically
from dockstack.deploy.supervision.services import Service, from_json, in_start_order, to_json


class Records:
    """The services of one node, as files below a directory."""

    def __init__(self, directory: str | Path) -> None:
        """Keep the records below this directory."""
        self._defined = Path(directory) / "services"
        self._started = Path(directory) / "started"

    @classmethod
    def here(cls) -> Records:
        """Return the records of this machine."""
        return cls(paths.STATE_DIRECTORY)

    def define(self, service: Service) -> None:
        """Remember a service, so that status, logs, down and clean know it."""
        content = json.dumps(to_json(service), indent=1, sort_keys=True)
        path = self._defined / f"{service.name}.json"
        if not path.exists() or path.read_text() != content:
            write_atomically(path, content)

    def services(self) -> tuple[Service, ...]:
        """Return all known services in the order in which they start."""
        files = sorted(self._defined.glob("*.json"))
        return in_start_order(from_json(json.loads(file.read_text())) for file in files)

    def started_with(self, name: str) -> str | None:
        """Return the hash with which a service was last started."""
        try:
            return (self._started / name).read_text()
        except FileNotFoundError:
            return None

    def set_started(self, name: str, value: str) -> None:
        """Record that a service was started with this hash and is ready."""
        write_atomically(self._started / name, value)

    def forget_start(self, name: str) -> None:
        """Let the next run start the service anew, whatever happens now."""
        (self._started / name).unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Forget a service."""
        self.forget_start(name)
        (self._defined / f"{name}.json").unlink(missing_ok=True)
