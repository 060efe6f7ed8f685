# SPDX-License-Identifier: Apache-2.0
"""A cloud around a registry: the real Glance, on sqlite, and a stand-in for Keystone, which takes long to begin.

Everything listens on the loopback, on ports that the kernel chose.
"""

from __future__ import annotations

import configparser
import json
import os
import secrets
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import glance
import requests

from held_ports import hold_port, port_of

SECRET = "registry-secret"
SERVICE_PASSWORD = "service-password"
_SECONDS = 240  # processes of these sizes start slowly where many tests run


@dataclass
class Person:
    """Somebody whom Keystone knows, in one project."""

    user: str
    password: str
    project: str
    roles: tuple[str, ...] = ("member", "reader")
    project_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    user_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    credential: str = field(default_factory=lambda: uuid.uuid4().hex)


class StandInKeystone:
    """What the registry and keystonemiddleware ask of Keystone: tokens, the catalogue, limits."""

    def __init__(self, people: list[Person], image_url: str) -> None:  # noqa: C901 - a handler's methods
        self.people, self.image_url, self.registry_url = people, image_url, ""
        self.tokens: dict[str, Person] = {}
        self.limit_mib = 1024
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: Any) -> None:
                pass

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["auth"]["identity"]
                person = outer._who(asked)
                if person is None:
                    return self._say(401, {"error": {"message": "no"}})
                token = secrets.token_hex(16)
                outer.tokens[token] = person
                self._say(201, outer._body(person), {"X-Subject-Token": token})
                return None

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path in ("/", "/v3", "/v3/"):
                    version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": outer.url}]}
                    return self._say(200, {"version": version})
                if path == "/v3/auth/tokens":
                    subject = self.headers["X-Subject-Token"]
                    if self.headers["X-Auth-Token"] not in outer.tokens:
                        return self._say(401, {"error": {"message": "no"}})
                    if subject not in outer.tokens:
                        return self._say(404, {"error": {"message": "no"}})
                    return self._say(200, outer._body(outer.tokens[subject]), {"X-Subject-Token": subject})
                return self._say(200, outer._resource(self.path))

            def _say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**(headers or {}), "Content-Type": "application/json"}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v3"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _who(self, asked: dict[str, Any]) -> Person | None:
        if "application_credential" in asked:
            given = asked["application_credential"]
            return next(
                (one for one in self.people if (one.credential, one.password) == (given["id"], given["secret"])), None
            )
        given = asked["password"]["user"]
        return next(
            (one for one in self.people if (one.user, one.password) == (given["name"], given["password"])), None
        )

    def _body(self, person: Person) -> dict[str, Any]:
        domain = {"id": "default", "name": "Default"}
        endpoint = {"interface": "internal", "region": "R", "region_id": "R", "url": self.image_url, "id": "e"}
        keystone = endpoint | {"url": self.url, "id": "k"}
        public = [dict(one, interface=kind) for one in (endpoint,) for kind in ("internal", "public")]
        registry = [dict(one, url=self.registry_url, id="r") for one in public]
        identity = [dict(keystone, interface=kind) for kind in ("internal", "public", "admin")]
        return {
            "token": {
                "methods": ["password"],
                "user": {"id": person.user_id, "name": person.user, "domain": domain},
                "project": {"id": person.project_id, "name": person.project, "domain": domain},
                "roles": [{"id": role, "name": role} for role in person.roles],
                "issued_at": "2026-01-01T00:00:00.000000Z",
                "expires_at": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() + 3600)),
                "audit_ids": ["a"],
                "catalog": [
                    {"type": "image", "name": "glance", "id": "g", "endpoints": public},
                    {"type": "container-registry", "name": "registry", "id": "r", "endpoints": registry},
                    {"type": "identity", "name": "keystone", "id": "k", "endpoints": identity},
                ],
            }
        }

    def _resource(self, path: str) -> dict[str, Any]:  # noqa: PLR0911 - a line each
        """Answer oslo.limit: the registered limits of Glance."""
        names = {
            "image_size_total": self.limit_mib,
            "image_stage_total": -1,
            "image_count_total": -1,
            "image_count_uploading": -1,
        }
        if "registered_limits" in path:
            limits = [
                {"id": name, "resource_name": name, "default_limit": most, "service_id": "g", "region_id": None}
                for name, most in names.items()
                if f"resource_name={name}" in path or "resource_name" not in path
            ]
            return {"registered_limits": limits, "links": {}}
        if "limits/model" in path:
            return {"model": {"name": "flat", "description": ""}}
        if "limits" in path:
            return {"limits": [], "links": {}}
        if "services" in path:
            return {"services": [{"id": "g", "type": "image", "name": "glance"}], "links": {}}
        if "regions" in path:
            return {"region": {"id": "R"}, "regions": [{"id": "R"}], "links": {}}
        if "endpoints" in path:
            endpoint = {"id": "e", "service_id": "g", "region_id": "R", "interface": "internal", "url": self.image_url}
            return {"endpoints": [endpoint], "endpoint": endpoint, "links": {}}
        if "/projects/" in path:
            project = next(one for one in self.people if one.project_id in path)
            return {"project": {"id": project.project_id, "domain_id": "default", "name": project.project}}
        return {"links": {}}


class RegistryCloud:
    """Keystone's stand-in, Glance and the registry."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self._held = [hold_port(), hold_port(), hold_port()]
        self.port, self.another_port, self.glance_port = map(port_of, self._held)
        self.image_url = f"http://127.0.0.1:{self.glance_port}"
        self.url = f"http://127.0.0.1:{self.port}"
        self.host = f"127.0.0.1:{self.port}"
        self.alice = Person("alice", "alice-password", "demo")
        self.bob = Person("bob", "bob-password", "other")
        self.reader = Person("reader", "reader-password", "demo", ("reader",), self.alice.project_id)
        self.service = Person("registry", SERVICE_PASSWORD, "service", ("admin", "service", "member"))
        self.glance_account = Person("glance", SERVICE_PASSWORD, "service", ("admin", "service"))
        people = [self.alice, self.bob, self.reader, self.service, self.glance_account]
        self.keystone = StandInKeystone(people, self.image_url)
        self.keystone.registry_url = self.url
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._configure("registry", **options)
        self._write_glance()

    def start(self) -> None:
        self.start_glance()
        self.start_registry()

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        self.keystone.stop()
        for held in self._held:
            held.close()

    def start_registry(self, **environment: str) -> None:
        command = [sys.executable, "-m", "dockstack.registry", str(self.directory / "registry.conf")]
        self._start("registry", command, f"{self.url}/", environment)

    def start_another(self, port: int, url: str, **options: str) -> None:
        """Start a second registry beside the same Glance; of the same images, if the options say no other place."""
        self._configure("another", port=port, url=url, **options)
        command = [sys.executable, "-m", "dockstack.registry", str(self.directory / "another.conf")]
        self._start("another", command, f"http://127.0.0.1:{port}/", {})

    def start_glance(self) -> None:
        if not (self.directory / "glance.sqlite").exists():
            command = [sys.executable, "-c", _MAKE_TABLES]  # migrations would take longer than all tests
            subprocess.run(command, env=self._environment(), check=True, timeout=_SECONDS)
        self._start("glance", [sys.executable, "-c", _SERVE_GLANCE], f"{self.image_url}/", {})

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def kill(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def token(self, person: Person) -> str:
        token = secrets.token_hex(16)
        self.keystone.tokens[token] = person
        return token

    def images(self, person: Person, **query: str) -> list[dict[str, Any]]:
        headers = {"X-Auth-Token": self.token(person)}
        answer = requests.get(f"{self.image_url}/v2/images", params=query, headers=headers, timeout=_SECONDS)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["images"]
        return found

    def glance(self, method: str, path: str, person: Person, **more: Any) -> requests.Response:
        headers = {"X-Auth-Token": self.token(person), **more.pop("headers", {})}
        return requests.request(method, f"{self.image_url}/v2/{path}", headers=headers, timeout=_SECONDS, **more)

    def _environment(self, **more: str) -> dict[str, str]:
        source = str(Path(__file__).resolve().parents[1] / "src")
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": source,
            "OS_GLANCE_CONFIG_DIR": str(self.directory),
            "GLANCE_CONF": str(self.directory / "glance-api.conf"),
            "GLANCE_PORT": str(self.glance_port),
            "PYTHONWARNINGS": "ignore",
            "HOME": str(self.directory),
            **more,
        }

    def _start(self, name: str, command: list[str], url: str, environment: dict[str, str]) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=self._environment(**environment), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self._processes[name] = process
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                requests.get(url, timeout=5)
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.1)
            else:
                return
        raise AssertionError((self.directory / f"{name}.log").read_text()[-4000:])

    def _configure(self, name: str, **options: Any) -> None:
        parser = configparser.ConfigParser(interpolation=None)
        parser["registry"] = {
            "database": f"sqlite:///{self.directory}/registry.sqlite",
            "directory": str(self.directory / "registry"),
            "secret": SECRET,
            "identity_url": self.keystone.url,
            "image_url": self.image_url,
            "password": SERVICE_PASSWORD,
            "port": str(self.port),
            "url": self.url,
            "archive_url": self.url,
            **{name: str(value) for name, value in options.items()},
        }
        with (self.directory / f"{name}.conf").open("w") as file:
            parser.write(file)

    def _write_glance(self) -> None:
        place = self.directory / "glance"
        account = {
            "auth_type": "password",
            "auth_url": self.keystone.url,
            "username": "glance",
            "password": SERVICE_PASSWORD,
            "user_domain_name": "Default",
            "project_name": "service",
            "project_domain_name": "Default",
        }
        parser = configparser.ConfigParser(interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser["DEFAULT"] = {
            "enabled_backends": "files:file,registry:http",
            "enabled_import_methods": "[glance-direct]",
            "hashing_algorithm": "sha256",
            "use_keystone_limits": "true",
            "worker_self_reference_url": self.image_url,
        }
        parser["database"] = {"connection": f"sqlite:///{self.directory}/glance.sqlite"}
        parser["glance_store"] = {"default_backend": "files"}
        parser["files"] = {"filesystem_store_datadir": str(place / "images")}
        parser["os_glance_staging_store"] = {"filesystem_store_datadir": str(place / "staging")}
        parser["os_glance_tasks_store"] = {"filesystem_store_datadir": str(place / "tasks")}
        ports = f"[80,443,{self.port},{self.another_port}]"
        parser["import_filtering_opts"] = {"allowed_hosts": "[127.0.0.1]", "allowed_ports": ports}
        parser["keystone_authtoken"] = {
            **account,
            "www_authenticate_uri": self.keystone.url,
            "service_token_roles_required": "true",
        }
        parser["oslo_limit"] = {**account, "endpoint_id": "e"}
        paste = Path(glance.__file__).parents[4] / "etc/glance/glance-api-paste.ini"
        parser["paste_deploy"] = {"flavor": "keystone", "config_file": str(paste)}
        parser["oslo_concurrency"] = {"lock_path": str(place / "lock")}
        for name in ("images", "staging", "tasks", "lock"):
            (place / name).mkdir(parents=True, exist_ok=True)
        with (self.directory / "glance-api.conf").open("w") as file:
            parser.write(file)


_MAKE_TABLES = """
import os
from oslo_config import cfg
from glance.common import config
from glance.db.sqlalchemy import api, models
config.parse_args(args=[], default_config_files=[os.environ["GLANCE_CONF"]])
models.register_models(api.get_engine())
"""
_SERVE_GLANCE = """
import os, socketserver, sys
from wsgiref import simple_server
from glance.common import wsgi_app
from sqlalchemy import event
from sqlalchemy.engine import Engine

@event.listens_for(Engine, "connect")
def wait_for_others(connection, record):
    connection.execute("PRAGMA busy_timeout = 60000")
    connection.execute("PRAGMA synchronous = OFF")

@event.listens_for(Engine, "begin")
def take_turns(connection):  # otherwise, of two that read and then write, sqlite refuses one at once
    if "in_transaction" not in connection.info:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.info["in_transaction"] = True

class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True

class Handler(simple_server.WSGIRequestHandler):
    def log_message(self, *arguments):
        pass

sys.argv = ["glance-api"]
port = int(os.environ["GLANCE_PORT"])
simple_server.make_server("127.0.0.1", port, wsgi_app.init_app(), Server, Handler).serve_forever()
"""
