# SPDX-License-Identifier: Apache-2.0
"""A pyinfra state that is connected to one node and runs each operation at once.

Over SSH, whoever answers must have the host key that is known already: of the node, and of each jump host before it.
Commands of a user who is not root run by sudo.
"""

from __future__ import annotations

import logging
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paramiko import AuthenticationException, BadHostKeyException, PasswordRequiredException, PKey, SSHException
from pyinfra.api import Config, Inventory, State
from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import ConnectError, PyinfraError
from pyinfra.api.state import StateStage

from dockstack.deploy.node.output import Output
from dockstack.deploy.node.shell import execute_here
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.wanted.inventory import Node

SSH_TIMEOUT = 20
SSH_PORT = 22
KEEP_ALIVE = 15  # seconds between signs of life
SILENCE = 60  # seconds after which a machine that acknowledges nothing is given up


class UnreachableError(DockstackError):
    """A node cannot be reached, or not any more."""


@dataclass(frozen=True)
class Connection:
    """What the layer needs of pyinfra."""

    state: Any
    host: Any
    node: Node

    def run(self, line: str, stdin: str | None, timeout: int) -> Output:
        """Run a shell line as root.

        On this machine not through pyinfra, which takes four times as much of a processor for a question; a run of `up`
        asks hundreds.

        Raises:
            TimeoutError: it takes longer than ``timeout`` seconds.
            UnreachableError: the connection broke; nobody knows what became of the command.
        """
        if self.node.connector == "@local":
            return execute_here(line, stdin, timeout)
        return self._run(line, stdin, timeout, sudo=self.state.config.SUDO)

    def require_sudo(self) -> None:
        """Refuse a user without sudo here: pyinfra would ask for a password, in the midst of many nodes' output.

        Raises:
            UnreachableError: there is no sudo without a password.
        """
        # Without sudo's own words, of which pyinfra would make that question.
        if self.state.config.SUDO and not self._run("sudo -n true 2>/dev/null", None, SSH_TIMEOUT, sudo=False).ok:
            user = self.node.user
            raise UnreachableError(
                f"{user} is not root on {self.node.name}, and sudo does not work there without a password.",
                f"Let it, in a file of /etc/sudoers.d: {user} ALL=(ALL) NOPASSWD: ALL",
            )

    def _run(self, line: str, stdin: str | None, timeout: int, *, sudo: bool) -> Output:
        try:
            ok, output = self.host.run_shell_command(StringCommand(line), _stdin=stdin, _timeout=timeout, _sudo=sudo)
        except TimeoutError:
            raise
        except (SSHException, EOFError, OSError) as error:
            raise self._lost() from error
        if not ok and self._is_lost():  # its status is not the command's
            raise self._lost()
        return Output(bool(ok), output.stdout, output.stderr)

    def _is_lost(self) -> bool:
        client = getattr(self.host.connector, "client", None)
        return client is not None and not client.get_transport().is_active()

    def _lost(self) -> UnreachableError:
        return UnreachableError(
            f"The connection to {self.node.name} broke.", "See whether the machine is up, and run the command again."
        )


def connect(node: Node, **host_data: Any) -> Connection:
    """Connect to a node.

    Args:
        node: the node; its connector is @local, @ssh or @fake.
        host_data: further pyinfra host data (a fake's scripted answers).

    Raises:
        UnreachableError: it cannot be reached, is not who it was, or does not let us in as root.
    """
    quiet()
    if node.connector != "@ssh":
        return _connected(node, node.connector, {**host_data})
    if node.key:
        _require_open(node.key)
    with tempfile.NamedTemporaryFile("w", prefix="dockstack-ssh-") as config:
        config.write(ssh_config(node))
        config.flush()
        data = {
            "ssh_user": node.user,
            "ssh_config_file": config.name,
            "ssh_strict_host_key_checking": "yes",
            **({"ssh_port": node.port} if node.port != SSH_PORT else {}),  # else ~/.ssh/config may know another
            **({"ssh_key": node.key} if node.key else {}),
        }
        connection = _connected(node, node.name, {**data, **host_data})
    _watch(connection.host.connector.client.get_transport())
    connection.require_sudo()
    return connection


def address_of(node: Node) -> str:
    """Return where SSH finds a node."""
    return node.address or node.name


def ssh_config(node: Node) -> str:
    """Return the client's configuration for a node: the person's own, but for what makes it strict; pure.

    In such a file the first value counts.
    """
    known = f"  UserKnownHostsFile {node.known_hosts}\n" if node.known_hosts else ""
    # By its name: a jump host may have the same address.
    address = f"  HostName {node.address}\n" if node.address else ""
    jump = f"  ProxyJump {node.jump}\n" if node.jump else ""
    key = f"  IdentityFile {node.key}\n" if node.key else ""
    return (
        f"Host *\n  StrictHostKeyChecking yes\n{known}Host {node.name}\n{address}{jump}Host *\nInclude ~/.ssh/config\n"
        f"Host *\n  UserKnownHostsFile ~/.ssh/known_hosts /etc/ssh/ssh_known_hosts\n{key}"
    )


def _connected(node: Node, name: str, data: dict[str, Any]) -> Connection:
    sudo = node.connector == "@ssh" and node.user != "root"
    config = Config(SUDO=sudo, CONNECT_TIMEOUT=SSH_TIMEOUT, SHELL="sh")
    state = State(Inventory(([(name, data)], {})), config, check_for_changes=False)
    state.set_stage(StateStage.Connect)
    host = next(iter(state.inventory))
    try:
        host.connect(show_errors=False, raise_exceptions=True)
    except PyinfraError as error:
        raise _refusal(node, error) from error
    state.activate_host(host)
    state.set_stage(StateStage.Execute)
    state.is_executing = True
    return Connection(state, host, node)


def _refusal(node: Node, error: PyinfraError) -> UnreachableError:
    """Say why there is no connection, by the type of what pyinfra caught."""
    address, cause = address_of(node), error.__context__ if isinstance(error, ConnectError) else error
    through = f" (through {node.jump})" if node.jump else ""
    match cause:
        case BadHostKeyException():
            brief = f"Who answers at {address}{through} is not {node.name} as it was: its host key is another."
            cure = "If the machine was installed anew, compare the new key and replace the old one (ssh-keygen -R)."
        case AuthenticationException():
            brief = f"{address}{through} does not let {node.user} in."
            cure = "Check user and key; a key with a passphrase must be in ssh-agent."
        case SSHException():
            brief = f"SSH with {address}{through} came to nothing: {cause}"
            cure = f"If its host key is not known yet, compare and add it: ssh-keyscan -p {node.port} {address}"
        case _:
            brief = f"Node {node.name} cannot be reached at {address}{through}: {cause}"
            cure = "Check its address and port, and that SSH answers."
    return UnreachableError(brief, cure)


def _require_open(key: str) -> None:
    """Refuse a key with a passphrase here: pyinfra would ask for it, once for each of many nodes."""
    try:
        PKey.from_path(Path(key).expanduser())
    except OSError as error:
        raise UnreachableError(
            f"The key {key} cannot be read: {error.strerror}.", "Check its path and mode."
        ) from error
    except (PasswordRequiredException, TypeError) as error:  # the latter from the library that paramiko calls
        cure = f"Add it to ssh-agent (ssh-add {key}), and name no key."
        raise UnreachableError(f"The key {key} has a passphrase.", cure) from error


def _watch(transport: Any) -> None:
    """Have the kernel break a connection to a machine that fell silent: a read of it would wait for ever."""
    transport.set_keepalive(KEEP_ALIVE)
    if isinstance(transport.sock, socket.socket):  # through a jump host, it is a channel
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE * 1000)


def quiet() -> None:
    """Silence pyinfra's own reports: progress comes from our events, and command outputs may hold secrets."""
    for name in ("pyinfra", "paramiko"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
