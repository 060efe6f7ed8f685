# SPDX-License-Identifier: Apache-2.0
"""A cloud's services as far as probes speak to them, on the loopback: APIs, a message bus, OVN's databases."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from amqp.serialization import dumps, loads

PASSWORDS = {"nova": "nova-pw", "placement": "placement-pw", "neutron": "neutron-pw"}
# What the root of an API says of its version: the id, and below which path it is.
ENTRANCES = {"image": ("v2.17", "/v2/"), "network": ("v2.0", "/v2.0/"), "placement": ("v1.0", "")}


class Apis:
    """Keystone, Placement, Nova and Neutron behind one port; attributes are what tests change."""

    def __init__(self):
        self.ahead = 0.0  # of Keystone's clock, seconds
        self.microversion = "2.104"
        self.region = "RegionOne"
        self.forbidden = ()  # paths
        self.proxied = ()  # paths that a proxy forbids, before Keystone and the others are asked
        self.networks = [{"mtu": 1442, "provider:network_type": "geneve"}]
        self.listings = {}  # what an administrator gets, by the end of a path
        self.seen = []
        self.sent = []
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_GET(self):
                path = self.path.partition("?")[0]
                cloud.seen.append(path)
                if path in cloud.forbidden:
                    self.answer(403, {}, {"x-openstack-request-id": "req-1"})
                elif path in cloud.proxied:
                    self.answer(403, {})
                elif self.headers.get("X-Auth-Token") or path.startswith(("/identity", "/compute")):
                    self.answer(200, cloud.content(path))
                else:
                    self.answer(401, {})

            def do_POST(self):
                login = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                user = login["auth"]["identity"]["password"]["user"]
                good = PASSWORDS.get(user["name"]) == user["password"]
                self.answer(201 if good else 401, cloud.token() if good else {}, {"X-Subject-Token": "t"})

            def do_PATCH(self):
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                cloud.sent.append((self.path, content))
                self.answer(200, {"id": self.path.rpartition("/")[2]})

            def answer(self, status, content, headers=()):
                body = json.dumps(content).encode()
                self.send_response(status)
                for name, value in {**dict(headers), "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def content(self, path):
        if path.startswith("/identity"):
            version = {
                "id": "v3.14",
                "status": "stable",
                "links": [{"rel": "self", "href": f"{self.url}/identity/v3/"}],
            }
            return {"version": version} if path.rstrip("/").endswith("v3") else {"versions": {"values": [version]}}
        listing = next((found for end, found in self.listings.items() if path.endswith(end)), None)
        if listing is not None:
            return listing
        if path.strip("/") in ENTRANCES:
            version, place = ENTRANCES[path.strip("/")]
            links = [{"rel": "self", "href": f"{self.url}{path.rstrip('/')}{place}"}]
            return {"versions": [{"id": version, "status": "CURRENT", "links": links}]}
        if path.startswith("/compute"):
            links = [{"rel": "self", "href": f"{self.url}/compute/v2.1/"}]
            version = {
                "id": "v2.1",
                "status": "CURRENT",
                "version": self.microversion,
                "min_version": "2.1",
                "links": links,
            }
            return {"version": version} if "v2.1" in path else {"versions": [version]}
        if path.endswith("/resource_providers"):
            return {"resource_providers": [{"name": "one"}]}
        return {"networks": self.networks}

    def token(self):
        catalog = [
            {
                "type": kind,
                "name": kind,
                "endpoints": [
                    {"id": kind, "interface": "internal", "region": self.region, "region_id": self.region, "url": url}
                ],
            }
            for kind, url in (
                ("compute", f"{self.url}/compute/v2.1"),
                ("placement", f"{self.url}/placement"),
                ("network", f"{self.url}/network"),
                ("image", f"{self.url}/image"),
            )
        ]
        issued, expires = (
            time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() + self.ahead + lasts))
            for lasts in (0, 3600)
        )
        known = {"methods": ["password"], "catalog": catalog, "user": {"id": "u"}}
        return {"token": {**known, "issued_at": issued, "expires_at": expires}}

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Broker:
    """A RabbitMQ that knows one user, one virtual host and, unless told otherwise, the exchanges nova and neutron."""

    def __init__(self):
        self.exchanges = {"nova", "neutron"}
        self.queues = {"conductor": (False, {}), "q-plugin": (False, {})}  # durable, arguments
        self.stuck = set()  # queues on a node that is down
        self.declared = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=_serve, args=(self._listener, self._attend), daemon=True).start()

    def _attend(self, plug):
        if plug.recv(8) != b"AMQP\0\0\x09\x01":
            return
        self._send(plug, 0, (10, 10), dumps("ooFSS", (0, 9, {}, b"PLAIN", b"en_US")))
        _, arguments = self._receive(plug)
        response = loads("FsSs", arguments, 0)[0][2]
        if response not in {"\0openstack\0bus-pw", b"\0openstack\0bus-pw"}:
            self._send(plug, 0, (10, 50), dumps("BsBB", (403, "ACCESS_REFUSED", 0, 0)))
            return
        self._send(plug, 0, (10, 30), dumps("BlB", (100, 131072, 0)))
        self._receive(plug)  # tune-ok
        _, arguments = self._receive(plug)
        if loads("sbb", arguments, 0)[0][0] != "/":
            self._send(plug, 0, (10, 50), dumps("BsBB", (530, "NOT_ALLOWED", 10, 40)))
            return
        self._send(plug, 0, (10, 41), dumps("s", ("",)))
        while True:
            channel, method, arguments = self._read(plug)
            match method:
                case (20, 10):  # channel.open
                    self._send(plug, channel, (20, 11), dumps("S", (b"",)))
                case (40, 10):
                    self._declare_exchange(plug, channel, *loads("Bssbbbbb", arguments, 0)[0][1:6])
                case (50, 10):
                    self._declare_queue(plug, channel, *loads("BsbbbbbF", arguments, 0)[0][1:])
                case (50, 20):
                    self._bind(plug, channel, loads("Bsss", arguments, 0)[0][2])
                case (10, 50):
                    self._send(plug, 0, (10, 51), b"")
                    return

    def _declare_exchange(self, plug, channel, name, _, passive, durable, __):
        self.declared.append((name, passive))
        if name not in self.exchanges:
            self._send(plug, channel, (20, 40), dumps("BsBB", (404, "NOT_FOUND", 40, 10)))
        elif not passive and durable:  # all that are there are not
            self._send(plug, channel, (20, 40), dumps("BsBB", (406, "PRECONDITION_FAILED", 40, 10)))
        else:
            self._send(plug, channel, (40, 11), b"")

    def _bind(self, plug, channel, exchange):
        if exchange not in self.exchanges:
            self._send(plug, channel, (20, 40), dumps("BsBB", (404, "NOT_FOUND", 50, 20)))
        else:
            self._send(plug, channel, (50, 21), b"")

    def _declare_queue(self, plug, channel, name, *how):
        passive, durable, exclusive, auto_delete, _, arguments = how
        if exclusive:  # it goes with its connection
            self._send(plug, channel, (50, 11), dumps("sll", ("amq.gen-1", 0, 0)))
            return
        self.declared.append((name, passive))
        if name not in self.queues or (name in self.stuck and not passive):
            self._send(plug, channel, (20, 40), dumps("BsBB", (404, "NOT_FOUND", 50, 10)))
        elif not passive and (auto_delete or (durable, arguments) != self.queues[name]):
            self._send(plug, channel, (20, 40), dumps("BsBB", (406, "PRECONDITION_FAILED", 50, 10)))
        else:
            self._send(plug, channel, (50, 11), dumps("sll", (name, 0, 1)))

    @staticmethod
    def _send(plug, channel, method, arguments):
        payload = struct.pack(">HH", *method) + arguments
        plug.sendall(struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce")

    def _receive(self, plug):
        return self._read(plug)[1:]

    @staticmethod
    def _read(plug):
        with plug.makefile("rb", buffering=0) as stream:
            _, channel, size = struct.unpack(">BHI", _exactly(stream, 7))
            payload = _exactly(stream, size + 1)[:-1]
        return channel, struct.unpack(">HH", payload[:4]), payload[4:]

    def close(self):
        _close(self._listener)


class Database:
    """An ovsdb-server: it says what it serves, and where tunnels end."""

    def __init__(self, name, ends=(), context=None):
        self.name, self.ends, self._context = name, ends, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.remote = f"{'ssl' if context else 'tcp'}:127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=_serve, args=(self._listener, self._attend), daemon=True).start()

    def _attend(self, plug):
        if self._context:
            try:
                plug = self._context.wrap_socket(plug, server_side=True)
            except (ssl.SSLError, OSError):
                return
        request = json.loads(plug.recv(65536))
        rows = [{"rows": [{"ip": end} for end in self.ends]}]
        result = ["_Server", self.name] if request["method"] == "list_dbs" else rows
        echo = json.dumps({"method": "echo", "params": [], "id": "echo"})
        answer = (echo + json.dumps({"id": request["id"], "error": None, "result": result})).encode()
        plug.sendall(answer[:40])
        plug.sendall(answer[40:])
        plug.recv(1)
        plug.close()

    def close(self):
        _close(self._listener)


def _exactly(stream, size):
    data = b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _serve(listener, attend):
    while True:
        try:
            plug, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_guarded, args=(plug, attend), daemon=True).start()


def _guarded(plug, attend):
    with plug:
        plug.settimeout(10)
        try:
            attend(plug)
            while plug.recv(4096):  # it hangs up, not we: what it has not read yet would be lost
                pass
        except (OSError, EOFError, ValueError):
            return


def _close(listener):
    if listener.fileno() >= 0:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def running(*services):
    """Have services for the time of the block."""
    try:
        yield services
    finally:
        for service in services:
            service.close()
