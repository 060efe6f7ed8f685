# SPDX-License-Identifier: Apache-2.0
"""HTTP to registries: checked addresses, bounded answers, followed redirects, one end for all of it."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from urllib.parse import urljoin, urlsplit

from dockstack.oci.documents import ImageRejected, shown
from dockstack.oci.remote.addresses import Allowed, Origin, RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

IDLE_SECONDS = 60
CHUNK = 256 << 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_PATIENCE = "Look at the network between this host and the registry; [docker] image_timeout bounds the whole."


class Broken(RegistryError):  # noqa: N818 - said of the connection
    """A connection ended, or was silent, before all was said."""


class Session:
    """What one pull says and hears, until its time is over."""

    def __init__(self, allowed: Allowed, seconds: float) -> None:
        """Connect to nobody yet.

        Args:
            allowed: whom the operator trusts.
            seconds: how long it may all take.
        """
        self.allowed = allowed
        self._deadline = time.monotonic() + seconds
        self._context: ssl.SSLContext | None = None

    def get(self, url: str, headers: Mapping[str, str], *, method: str = "GET") -> Answer:
        """Ask, and follow redirects; credentials go to nobody but whom the URL names.

        Raises:
            Broken: the connection failed.
            RegistryError: it leads where we do not go.
        """
        origin = Origin.of(url)
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._ask(method, url, headers)
            answer.origin = origin
            if answer.status not in _REDIRECTS:
                return answer
            with answer:
                url = _joined(url, answer.header("Location"))
            if Origin.of(url) != origin:
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
                origin = Origin.of(url)
        raise RegistryError("The registry leads from one address to the next, without end.", "Ask who runs it.")

    def _ask(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        origin = Origin.of(url)
        self.allowed.require(origin)
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = _Connection(origin, self._connect(origin))
        guard = _Guard(connection.sock, self._left())
        try:
            if isinstance(connection.sock, ssl.SSLSocket):
                connection.sock.do_handshake()
            connection.request(method, target, headers={"User-Agent": "dockstack", **headers})
            return Answer(connection, connection.getresponse(), guard)
        except ssl.SSLCertVerificationError as error:
            guard.cancel()
            connection.close()
            raise RegistryError(
                f"The certificate of {shown(str(origin))} counts for nothing on this host ({error.verify_message}).",
                "If it is an authority's of your own, the operator names that in [docker] registry_ca_file.",
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            guard.cancel()
            connection.close()
            raise Broken(f"{shown(str(origin))} gave no answer.", _PATIENCE, str(error)) from error

    def _connect(self, origin: Origin) -> socket.socket:
        fault: OSError | None = None
        for address in self.allowed.resolve(origin):
            try:
                plain = socket.create_connection((address, origin.port), min(IDLE_SECONDS, self._left()))
            except OSError as error:
                fault = error
                continue
            if origin.scheme == "http":
                return plain
            # the handshake comes when the guard stands: it can be made to last, too
            return self._tls().wrap_socket(plain, server_hostname=origin.host, do_handshake_on_connect=False)
        raise Broken(f"{shown(str(origin))} cannot be reached.", _PATIENCE, str(fault)) from fault

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
            if self.allowed.ca_file:
                try:
                    self._context.load_verify_locations(self.allowed.ca_file)
                except OSError as error:
                    raise RegistryError(
                        f"The registries' authority {self.allowed.ca_file} cannot be read.",
                        "Correct [docker] registry_ca_file on this host.",
                        str(error),
                    ) from error
        return self._context

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Broken("The registry took longer than an image may take.", _PATIENCE)
        return left


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise RegistryError(f"The registry leads to {shown(location)}.", "Ask who runs it.") from error


class Answer:
    """A registry's answer, whose body is read when it is asked for.

    Attributes:
        status: HTTP's.
        origin: who gave it: the registry, or whoever it led to.
    """

    origin: Origin

    def __init__(self, connection: _Connection, response: http.client.HTTPResponse, guard: _Guard) -> None:
        """Take the connection over."""
        self._connection = connection
        self._response = response
        self._guard = guard
        self.status = response.status

    def header(self, name: str) -> str:
        """Return a header; empty if there is none."""
        return self._response.headers.get(name) or ""

    def small(self, most: int, what: str) -> bytes:
        """Read a small body whole.

        Raises:
            ImageRejected: it is not small.
            Broken: it ends early.
        """
        data = bytearray()
        for chunk in self.chunks():
            data += chunk
            if len(data) > most:
                raise ImageRejected(
                    f"The registry's {what} has more than {most} bytes.", "No real image needs that many."
                )
        return bytes(data)

    def chunks(self) -> Iterator[bytes]:
        """Read the body as it comes; its length is compared with what was said.

        Raises:
            Broken: it ends early, or nothing comes.
        """
        with self:
            try:
                while chunk := self._response.read1(CHUNK):
                    yield chunk
                if self._response.length:  # read1 takes an early end for the end
                    raise Broken("The registry's answer ended early.", _PATIENCE)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise Broken("The registry's answer broke off.", _PATIENCE, str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up."""
        self._guard.cancel()
        self._response.close()
        self._connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection that exists; it never makes another."""

    def __init__(self, origin: Origin, sock: socket.socket) -> None:
        super().__init__(f"[{origin.host}]" if ":" in origin.host else origin.host, origin.port)
        self.default_port = {"https": 443, "http": 80}[origin.scheme]
        self.sock = sock
        self.auto_open = 0


class _Guard:
    """Ends a connection when the time is over: bytes that drip keep every other clock from running out."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Let it be."""
        self._timer.cancel()

    def _end(self) -> None:
        with suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
