# SPDX-License-Identifier: Apache-2.0
"""What there is inside the images that servers boot from: agents and accounts, looked up once for each image."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dockstack.compute.containers import inits
from dockstack.compute.guest import accounts

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.compute.engine import Engine, GuestFile
    from dockstack.compute.guest.accounts import Account

T = TypeVar("T")

# What fetches key and user data by itself, if an init runs it.
AGENTS = ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init", "/usr/lib/dockstack/metadata")
FILE_LIMIT = 1 << 20  # bytes of passwd, shadow and authorized_keys
_REMEMBERED = 256  # things about images
_INIT = "init:"  # no path begins so
_UNKNOWN = object()


@dataclass(frozen=True)
class Guest:
    """What the driver has to know of an image's inside."""

    has_agent: bool
    accounts: dict[str, Account]


class Guests:
    """The insides of the images that were looked into last; an image never changes."""

    def __init__(self, engine: Engine) -> None:
        """Start knowing none."""
        self._engine = engine
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def look(self, image_id: str, container: str) -> Guest:
        """Look into an image by way of a container of it that has not run yet."""
        return self._once(image_id, "", lambda: self._find_out(image_id, container))

    def read(self, image_id: str, container: str, path: str) -> GuestFile | None:
        """Read a file of an image by way of a container of it that has not run yet; none if there is none.

        The engine starts a process of its own for each file that it reads, which takes some 50 ms of a processor.
        """
        return self._once(image_id, path, lambda: self._engine.read_file(container, path, FILE_LIMIT))

    def find_init(self, image_id: str, container: str, program: str) -> str:
        """Say which init a program of an image is (``containers.inits``), by way of a container of it."""
        return self._once(image_id, _INIT + program, lambda: inits.recognise(self._engine.resolve(container, program)))

    def recall_init(self, image_id: str, program: str) -> str:
        """Say the same if it is known already; else, that it is none."""
        with self._lock:
            return str(self._known.get((image_id, _INIT + program), ""))

    def _find_out(self, image_id: str, container: str) -> Guest:
        has_agent = any(self._engine.has_path(container, path) for path in AGENTS)
        passwd = self.read(image_id, container, accounts.PASSWD)
        return Guest(has_agent, accounts.parse_passwd(passwd.data.decode("utf-8", "replace") if passwd else ""))

    def _once(self, image_id: str, path: str, find: Callable[[], T]) -> T:
        with self._lock:
            known = self._known.get((image_id, path), _UNKNOWN)
        found: T = find() if known is _UNKNOWN else known
        with self._lock:
            self._known[image_id, path] = found
            self._known.move_to_end((image_id, path))
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found
