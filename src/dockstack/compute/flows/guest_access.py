# SPDX-License-Identifier: Apache-2.0
"""A server's owner gets in: keys, files and passwords, for any image.

An image with cloud-init, or with an init of ours, fetches key and user data itself, from the metadata service or from
its config drive. For every other image the driver places the key, between the container's creation and its first
start; never again after that, so that a user's own changes stay. A rebuilt server is a new one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.containers import inits, spec
from dockstack.compute.guest import accounts, injected_files
from dockstack.compute.guest.accounts import Account
from dockstack.compute.guest.injected_files import Entry
from dockstack.compute.host.guests import FILE_LIMIT
from dockstack.errors import DockstackError
from dockstack.names import ROOT_LABEL

if TYPE_CHECKING:
    from dockstack.compute.engine import GuestFile
    from dockstack.compute.host.host import Host
    from dockstack.compute.images.fetch import LoadedImage
    from dockstack.compute.model import Server

LOG = logging.getLogger(__name__)

ADMIN_USER = "os_admin_user"  # Nova's property: whose password is meant
KEY_SETTING, PASSWORD_SETTING = "docker_inject_key", "docker_inject_password"
AUTO, ALWAYS, NEVER = "auto", "always", "never"
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MACHINE_ID, _IDENTITY = "/etc/machine-id", re.compile(rb"[0-9a-f]{32}\n?")  # machine-id(5)
_ROOT = Account("root", 0, 0, accounts.ROOT_HOME)


class PasswordRefused(DockstackError):  # noqa: N818 - said of the server
    """A server cannot be given a password; nothing was changed."""


def check(host: Host, server: Server) -> None:
    """Refuse, before anything is made, what cannot be placed.

    Raises:
        PropertyError: a property is not what it should be.
        PlacementError: a file's path is none.
    """
    for name, default in _defaults(host):
        spec.choose(server, name, default, (AUTO, ALWAYS, NEVER))
    for file in server.files:
        injected_files.place_file(file)


def place(host: Host, server: Server, image: LoadedImage) -> None:
    """Place key, password and files in the server's container, which has not run yet.

    Raises:
        EngineError: the engine refused, for example because a directory is in a file's way.
    """
    choices = {name: spec.choose(server, name, default, (AUTO, ALWAYS, NEVER)) for name, default in _defaults(host)}
    keys = _key_entries(host, server, image, choices[KEY_SETTING])
    entries = [*keys, *_password_entry(host, server, image, choices[PASSWORD_SETTING]), *_own_id(host, server, image)]
    if entries:
        host.engine.put_archive(server.container_name, "/", injected_files.build_archive(entries))
    files = [injected_files.place_file(file) for file in server.files]
    if files:
        host.engine.put_archive(server.container_name, "/", injected_files.build_archive(files), keep_kinds=True)


def set_password(host: Host, server: Server, user: str, password: str) -> None:
    """Set the password of a running server's user.

    The server's own chpasswd does it, and gets a hash on its standard input. Where there is none, /etc/shadow is
    written. No process list, log or inspection shows the password.

    Raises:
        PasswordRefused: there is no such user, or the server has no passwords.
        Conflict: the server does not run.
    """
    hashed = accounts.hash_password(password)
    with host.busy.hold(server.uuid):
        _set_password(host, server, user, hashed)


def _set_password(host: Host, server: Server, user: str, hashed: str) -> None:
    line = f"{user}:{hashed}\n".encode()
    container = host.container(server.uuid)
    container_id = container.id
    done = host.engine.execute(container_id, ["chpasswd", "-e"], user="0", stdin=line, environment={"PATH": _SEARCH})
    if done.exit_code == 0:
        return
    if container.labels.get(ROOT_LABEL):  # the engine writes beside its volume, where nobody would ever see it
        raise PasswordRefused(
            f"Server {server.uuid} has no chpasswd that takes the password, and its root file system is on a volume.",
            "Install chpasswd in it, or set the password in the server itself.",
        )
    LOG.info(
        "chpasswd in the server ended with status %s; writing its /etc/shadow",
        done.exit_code,
        instance_uuid=server.uuid,
    )
    shadow = host.engine.read_file(container_id, accounts.SHADOW, FILE_LIMIT)
    entry = _set_hash(shadow, user, hashed)
    if entry is None:
        raise PasswordRefused(
            f"Server {server.uuid} has no user {user!r} with a password.",
            f"Name the user in the image's property {ADMIN_USER}.",
        )
    host.engine.put_archive(container_id, "/", injected_files.build_archive([entry]))


def _defaults(host: Host) -> tuple[tuple[str, str], ...]:
    return (KEY_SETTING, host.options.inject_key), (PASSWORD_SETTING, host.options.inject_password)


def _key_entries(host: Host, server: Server, image: LoadedImage, choice: str) -> list[Entry]:
    if not server.key_data or choice == NEVER:
        return []
    guest = host.guests.look(image.engine_id, server.container_name)
    if choice == AUTO and guest.has_agent and spec.runs_init(server, image.config):
        return []
    users = ("root", spec.user_of(server, image.config), server.image.properties.get(ADMIN_USER, ""))
    found = [account for user in users if user and (account := accounts.find_account(guest.accounts, user))]
    by_home = {account.home: account for account in reversed([*found, _ROOT][: max(len(found), 1)])}
    return [entry for account in by_home.values() for entry in _place_key(host, server, image, account)]


def _place_key(host: Host, server: Server, image: LoadedImage, account: Account) -> tuple[Entry, Entry]:
    existing = host.guests.read(image.engine_id, server.container_name, injected_files.key_path(account))
    return injected_files.place_key(account, server.key_data or "", existing.data if existing else b"")


def _password_entry(host: Host, server: Server, image: LoadedImage, choice: str) -> list[Entry]:
    user = server.image.properties.get(ADMIN_USER, "")
    wanted = choice == ALWAYS or (choice == AUTO and user)
    if not wanted or not server.admin_password:
        return []
    shadow = host.guests.read(image.engine_id, server.container_name, accounts.SHADOW)
    entry = _set_hash(shadow, user or "root", accounts.hash_password(server.admin_password))
    if entry is None:
        LOG.warning(
            "The server gets no password: its image has no user %r with one", user or "root", instance_uuid=server.uuid
        )
    return [entry] if entry else []


def _own_id(host: Host, server: Server, image: LoadedImage) -> list[Entry]:
    """Replace the id of the machine that an image was made of; an empty one, or none, its systemd fills in itself."""
    if image.config.init != inits.SYSTEMD:
        return []
    found = host.guests.read(image.engine_id, server.container_name, _MACHINE_ID)
    if found is None or not _IDENTITY.fullmatch(found.data):
        return []
    return [Entry(_MACHINE_ID.lstrip("/"), 0o444, server.uuid.replace("-", "").encode() + b"\n")]


def _set_hash(shadow: GuestFile | None, user: str, hashed: str) -> Entry | None:
    if shadow is None:
        return None
    text = accounts.set_hash(shadow.data.decode("utf-8", "surrogateescape"), user, hashed)
    if text is None:
        return None
    data = text.encode("utf-8", "surrogateescape")
    return Entry(accounts.SHADOW.lstrip("/"), shadow.mode & 0o777, data, shadow.uid, shadow.gid)
