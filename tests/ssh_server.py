# SPDX-License-Identifier: Apache-2.0
"""A real SSH server of a test's own, on the loopback, with keys of its own: commands run here, as the test's user.

It needs nothing that is installed: the library that the command line connects with can serve, too. Of a login it looks
at the user's name and key; ``sudo`` is a script that notes whom it served and runs the command.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
from contextlib import contextmanager

import paramiko


class _Door(paramiko.ServerInterface):
    def __init__(self, server):
        self._server = server
        self.targets = {}  # where a forwarded channel leads, by its number

    def get_allowed_auths(self, username):
        return "publickey"

    def check_auth_publickey(self, username, key):
        known = self._server.users.get(username) == key
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        threading.Thread(target=self._server.execute, args=(channel, command.decode()), daemon=True).start()
        return True

    def check_channel_direct_tcpip_request(self, chanid, origin, destination):
        self._server.forwarded.append(destination)
        self.targets[chanid] = destination
        return paramiko.OPEN_SUCCEEDED


class SshServer:
    """One server; ``users`` are who may log in, by their public keys."""

    def __init__(self, directory, users):
        self.users = users
        self.commands = []
        self.fatal = None  # the machine is switched off as soon as a command has this in it
        self.forwarded = []
        self._key = paramiko.ECDSAKey.generate()
        self._directory = directory
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._transports = []
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def known_hosts_line(self):
        return f"[127.0.0.1]:{self.port} {self._key.get_name()} {self._key.get_base64()}\n"

    def new_host_key(self):
        """Be somebody else from now on."""
        self._key = paramiko.ECDSAKey.generate()

    def hang_up(self):
        """Break all connections, as a machine does that is switched off."""
        for transport in self._transports:
            transport.close()

    def close(self):
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept, who would keep it open
        self._listener.close()
        self.hang_up()

    def sudo(self, exit_status=None):
        """Have a sudo that works, or one that ends with this status."""
        program = self._directory / "sudo"
        failing = (
            "echo 'sudo: a password is required' >&2" if exit_status else f'echo "$*" >> {self._directory}/sudo.log'
        )
        run = f"exit {exit_status}" if exit_status else 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"'
        program.write_text(f"#!/bin/sh\n{failing}\n{run}\n")
        program.chmod(0o755)

    @property
    def by_sudo(self):
        log = self._directory / "sudo.log"
        return log.read_text().splitlines() if log.exists() else []

    def execute(self, channel, command):
        self.commands.append(command)
        # Until its end: the client closes it when it knows that its request was taken, and no answer may come before.
        given = b"".join(iter(lambda: channel.recv(65536), b""))
        if self.fatal and self.fatal in command:
            self.hang_up()
            return
        environment = {**os.environ, "PATH": f"{self._directory}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["sh", "-c", command], input=given, capture_output=True, check=False, env=environment, timeout=120
        )
        if not channel.closed:
            channel.sendall(done.stdout)
            channel.sendall_stderr(done.stderr)
            channel.send_exit_status(done.returncode)
        channel.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection):
        transport = paramiko.Transport(connection)
        self._transports.append(transport)
        transport.add_server_key(self._key)
        door = _Door(self)
        try:
            transport.start_server(server=door)
        except (paramiko.SSHException, EOFError, OSError):
            return
        while transport.is_active():
            channel = transport.accept(timeout=1)
            if channel is not None and channel.get_id() in door.targets:
                target = door.targets.pop(channel.get_id())
                threading.Thread(target=_forward, args=(channel, target), daemon=True).start()


def _forward(channel, target):
    with socket.create_connection(target) as connection:
        while True:
            ready, _, _ = select.select([channel, connection], [], [], 10)
            for source, sink in ((channel, connection), (connection, channel)):
                if source in ready:
                    data = source.recv(65536)
                    if not data:
                        return
                    sink.sendall(data)


@contextmanager
def serving(directory, users):
    """Have a server for the time of the block."""
    directory.mkdir(exist_ok=True)
    server = SshServer(directory, users)
    try:
        yield server
    finally:
        server.close()
