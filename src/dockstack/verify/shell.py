# SPDX-License-Identifier: Apache-2.0
"""A login inside a server, by SSH with a key pair of our own."""

from __future__ import annotations

import io
import socket
from dataclasses import dataclass, field

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dockstack.verify.model import CheckFailed
from dockstack.verify.probe import wait_until

CONNECT_SECONDS = 5.0
NO_STATUS = -1  # paramiko: a signal ended the command, or the connection was lost before its status came


@dataclass(frozen=True)
class KeyPair:
    """An Ed25519 key pair: Nova no longer makes private keys (microversion 2.92)."""

    private: str = field(repr=False)
    public: str

    @classmethod
    def generate(cls) -> KeyPair:
        """Make a new pair, both in OpenSSH's formats."""
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return cls(private.decode(), public.decode())


@dataclass(frozen=True)
class Done:
    """What a command inside a server came to."""

    status: int
    output: str


class AcceptNewHost(paramiko.MissingHostKeyPolicy):
    """Accepts any host key: that of a server made seconds ago cannot be known."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Accept; nothing secret is sent to a server of the exercises."""


class Shell:
    """Commands inside one server."""

    def __init__(self, client: paramiko.SSHClient, address: str, timeout: float) -> None:
        """Wrap a connected client; ``timeout`` is for each command."""
        self._client = client
        self._address = address
        self._timeout = timeout

    def close(self) -> None:
        """End the connection; a connection that is gone already is fine."""
        self._client.close()

    def attempt(self, command: str) -> Done:
        """Run a command and return its status with both outputs.

        Raises:
            CheckFailed: the connection broke or the command did not end in time.
        """
        try:
            _, output, _ = self._client.exec_command(f"{{ {command}\n}} 2>&1", timeout=self._timeout)
            text = output.read().decode(errors="replace")
            status = output.channel.recv_exit_status()
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise CheckFailed(
                f"`{command}` inside {self._address} gave no answer within {self._timeout:g} s.",
                "Look at the server's console log and at the path to it.",
                repr(error),
            ) from error
        if status == NO_STATUS and not self._is_connected():
            raise CheckFailed(
                f"The connection to {self._address} was lost while `{command}` ran there.",
                "Look at the server's console log whether it was stopped, and at the path to it.",
                text,
            )
        return Done(status, text)

    def _is_connected(self) -> bool:
        transport = self._client.get_transport()
        return transport is not None and transport.is_active()

    def run(self, command: str) -> str:
        """Run a command that has to succeed; return its output without the last line feed.

        Raises:
            CheckFailed: it failed.
        """
        done = self.attempt(command)
        if done.status != 0:
            end = "was ended by a signal" if done.status == NO_STATUS else f"ended with status {done.status}"
            raise CheckFailed(f"`{command}` inside {self._address} {end}.", details=done.output)
        return done.output.strip()


def log_in(address: str, user: str, key: KeyPair, seconds: float, command_timeout: float = 30) -> Shell:
    """Log in as soon as possible. Only a command that has run proves it: a half-booted server may hang up.

    Raises:
        CheckFailed: not within that time; the details say what the last try met.
    """
    last = ["nothing tried"]

    def attempt() -> Shell | None:
        try:
            shell = Shell(connect(address, user, key), address, command_timeout)
        except (OSError, EOFError, paramiko.SSHException) as error:
            last[0] = repr(error)
            return None
        try:
            shell.run("true")
        except CheckFailed as failure:
            last[0] = failure.brief
            shell.close()
            return None
        return shell

    try:
        return wait_until(attempt, seconds, f"SSH login as {user} at {address}", every=0.5)
    except CheckFailed as failure:
        raise CheckFailed(
            failure.brief,
            "If the port is refused, sshd does not run in the server; if it is silent, look at security groups and "
            "the floating IP; if the key is refused, the server did not get it from the metadata service.",
            f"last try: {last[0]}",
        ) from failure


def connect(address: str, user: str, key: KeyPair) -> paramiko.SSHClient:
    """Connect once, with nothing but this key."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(AcceptNewHost())
    pkey = paramiko.Ed25519Key.from_private_key(io.StringIO(key.private))
    try:
        client.connect(
            address,
            username=user,
            pkey=pkey,
            timeout=CONNECT_SECONDS,
            banner_timeout=CONNECT_SECONDS,
            auth_timeout=CONNECT_SECONDS * 2,
            allow_agent=False,
            look_for_keys=False,
            sock=socket.create_connection((address, 22), timeout=CONNECT_SECONDS),
        )
    except BaseException:
        client.close()
        raise
    return client
