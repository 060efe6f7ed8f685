# SPDX-License-Identifier: Apache-2.0
"""The server's side of a console; it outlasts stops and restarts of the server.

If the first process has a terminal, the console is attached to that. Otherwise it shows the server's log, and a key
press starts a program on a new terminal: the one that the image names, or else a login prompt if the image has one, or
else a shell as the container's user.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oslo_log import log as logging

from dockstack.compute.consoles.text import Newlines, notice
from dockstack.compute.engine import Conflict, EngineUnavailable, NotFound
from dockstack.compute.model import PowerState
from dockstack.errors import DockstackError
from dockstack.names import LABEL_PREFIX, NAME_LABEL, NAME_PREFIX

if TYPE_CHECKING:
    from dockstack.compute.engine import Container, Engine, Program, Size, Stream, Terminals

LOG = logging.getLogger(__name__)

CONSOLE_LABEL = LABEL_PREFIX + "console"

LOG_LINES = 200
TERM = "xterm-256color"
PATIENCE = 20.0  # seconds: a reboot shall not end a console, nor a short absence of the engine
ENGINE_PATIENCE = 300.0
_HANGUP = 'kill -HUP "$1"; sleep 1; kill -KILL "$1" 2>/dev/null; :'  # a shell hears the first, whatever it runs
_ENTER = b"\r\n"


@dataclass(frozen=True)
class Login:
    """A program that may answer on a console."""

    command: tuple[str, ...]
    user: str = ""  # empty: the container's user


# A prompt asks for a name and a password, for which it has to be root. Where an image has none there are no accounts to
# guard, and a shell may do what the server's own process may.
LOGINS = (Login(("/bin/login",), "0"), Login(("bash", "-l")), Login(("sh", "-l")))


class Backend:
    """What one console reads from and types to. Not thread-safe: the console's thread alone calls it.

    Attributes:
        over: the server is gone, or stays down; nothing more will come.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        """Remember which container; nothing is called yet."""
        self.over = False
        self._engine = engine
        self._terminals: Terminals = engine.terminals()
        self._name = name
        self._server_uuid = name.removeprefix(NAME_PREFIX)
        self._container: Container | None = None
        self._stream: Stream | None = None
        self._program: Program | None = None
        self._newlines = Newlines()
        self._size: Size | None = None
        self._heard = 0.0  # until when the log was shown, in seconds since the epoch
        self._down_since: float | None = None
        self._told: str | None = None
        self._lost: list[int] = []  # programs that an absent engine kept from being ended

    @property
    def stream(self) -> Stream | None:
        """The conversation to watch, if there is one just now."""
        return self._stream

    @property
    def title(self) -> str:
        """The server's name, as soon as it is known."""
        return "" if self._container is None else self._container.labels.get(NAME_LABEL, "")

    @property
    def busy(self) -> bool:
        """Whether a program of ours answers."""
        return self._program is not None

    def connect(self) -> bytes:
        """Begin to listen, or find out why not; return what to show."""
        try:
            container = self._engine.container(self._name)
            if container.state not in (PowerState.RUNNING, PowerState.PAUSED):
                return self._wait("The server is not running", PATIENCE)
            return self._listen(container)
        except NotFound:
            return self._end("The server is gone")
        except EngineUnavailable:
            return self._wait("The container engine is away; waiting for it", ENGINE_PATIENCE)
        except DockstackError as error:
            LOG.warning("Its console has a failure: %s", error, instance_uuid=self._server_uuid)
            return self._wait("The console does not work just now", PATIENCE)

    def read(self) -> bytes:
        """Return what the server has said, as a terminal shows it."""
        if self._stream is None:
            return b""
        data = self._stream.read()
        if self._program is None:
            self._heard = time.time()
        if self._on_log():
            data = self._newlines.feed(data)
        if self._stream.ended:
            data += self._hear_end()
        return data

    def type(self, data: bytes) -> tuple[int, bytes]:
        """Pass on what was typed.

        Returns:
            how much of it is done with, and what to show.
        """
        if self._stream is None:
            return 0, b""
        if self._on_log():
            shown = self._log_in()
            asleep = self._on_log() or not data.strip(_ENTER)  # the key that woke it is not an answer
            return len(data) if asleep else 0, shown
        return self._stream.write(data), b""

    def resize(self, size: Size) -> None:
        """Give the server's terminal the viewers' size."""
        self._size = size
        self._apply_size()

    def hang_up(self) -> None:
        """End the program that answers, if one does, and all that was started from it."""
        program, self._program = self._program, None
        if program is None:
            return
        self._drop()
        self._kill(program.pid)

    def close(self) -> None:
        """Let go of everything."""
        self.hang_up()
        self._drop()
        self._terminals.close()

    # -- inside

    def _on_log(self) -> bool:
        return self._container is not None and not self._container.tty and self._program is None

    def _listen(self, container: Container) -> bytes:
        shown = b"" if self._told is None else notice("Connected again")
        self._container = container
        self._down_since = self._told = None
        if container.tty:
            self._stream = self._terminals.attach(container.id)
            shown += self._terminals.read_log(container.id, LOG_LINES, self._heard)
            self._apply_size()
            return shown
        self._clear_away(container)
        self._stream = self._terminals.follow_log(container.id, LOG_LINES, self._heard)
        return shown

    def _hear_end(self) -> bytes:
        """Do what is due at the end of the stream: after a program, say that it ended; the log is shown next.

        The server's terminal or its log may have ended for several reasons; ``connect`` finds out.
        """
        program, self._program = self._program, None
        self._drop()
        if program is None:
            return b""
        self._kill(program.pid)  # it may be the engine that ended
        return notice("The session has ended. Press Enter for another one")

    def _log_in(self) -> bytes:
        """Start a program on a terminal of its own."""
        container = self._container
        if container is None:
            return b""
        try:
            program = self._start(container)
        except Conflict:
            return notice("The server is paused")
        except DockstackError as error:
            LOG.warning("No login on its console: %s", error, instance_uuid=self._server_uuid)
            return notice("No program could be started on this console; try again")
        if program is None:
            return notice("The image has no login and no shell; its log is all there is")
        self._drop()
        self._program, self._stream = program, program.stream
        self._apply_size()
        return b""

    def _start(self, container: Container) -> Program | None:
        for login in logins_of(container.labels.get(CONSOLE_LABEL, "")):
            program = self._terminals.run(container.id, login.command, login.user, {"TERM": TERM})
            if program is not None:
                return program
        return None

    def _clear_away(self, container: Container) -> None:
        """End programs that no console is connected to, because nova-compute or the engine was restarted meanwhile."""
        lost, self._lost = self._lost, []
        for pid in (*lost, *self._terminals.programs(container.id)):
            self._kill(pid)

    def _kill(self, pid: int) -> None:
        """End a process of the server from inside it, where nothing else can be hit."""
        inside = None if self._container is None else number_inside(pid, self._container.id)
        if self._container is None or inside is None:
            return
        try:
            self._engine.execute(self._container.id, ["/bin/sh", "-c", _HANGUP, "sh", str(inside)], user="0")
        except EngineUnavailable:
            self._lost.append(pid)
        except DockstackError as error:  # the server stopped, and the process with it; or it is paused
            LOG.debug("Its process %s was not hung up on: %s", pid, error, instance_uuid=self._server_uuid)

    def _apply_size(self) -> None:
        if self._size is None or self._container is None:
            return
        with contextlib.suppress(DockstackError):  # it ended meanwhile; a size is no reason to end a console
            if self._program is not None:
                self._terminals.resize_program(self._program, self._size)
            elif self._container.tty:
                self._terminals.resize(self._container.id, self._size)

    def _wait(self, text: str, patience: float) -> bytes:
        """Go on waiting for a server that cannot be reached, and end the console after ``patience`` seconds of that.

        Returns:
            The text, the first time; then nothing, so that viewers do not see it at each try.
        """
        now = time.monotonic()
        self._down_since = self._down_since or now
        if now - self._down_since > patience:
            return self._end(text)
        if self._told == text:
            return b""
        self._told = text
        return notice(text)

    def _end(self, text: str) -> bytes:
        self.over = True
        return b"" if self._told == text else notice(text)

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def logins_of(label: str) -> tuple[Login, ...]:
    """Return the programs to try, from a container's label; what cannot be read counts as not said."""
    try:
        said = json.loads(label)
        return (Login(tuple(str(word) for word in said["command"]), str(said["user"])),)
    except (ValueError, TypeError, KeyError):
        return LOGINS


def number_inside(pid: int, container_id: str) -> int | None:
    """Return a process's number in its own namespace (proc(5), NSpid); None if it is gone or no process of that one."""
    process = Path("/proc") / str(pid)
    try:
        lines = (process / "status").read_text(encoding="utf-8").splitlines()
        groups = (process / "cgroup").read_text(encoding="utf-8")
    except OSError:
        return None
    numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
    return int(numbers[-1]) if len(numbers) > 1 and container_id in groups else None
