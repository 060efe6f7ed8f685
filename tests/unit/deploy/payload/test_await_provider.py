# SPDX-License-Identifier: Apache-2.0
"""Waiting for Placement, with a Keystone and a Placement of the test's own that speak HTTP."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from dockstack.deploy.payload import await_provider

pytestmark = pytest.mark.unit
NOVA_CONF = """\
[placement]
auth_type = password
auth_url = {url}/v3
username = placement
password = right
user_domain_name = Default
project_name = service
project_domain_name = Default
region_name = RegionOne
valid_interfaces = internal
"""


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """A cloud that knows these hosts after some questions."""
    monkeypatch.setattr(await_provider, "POLL", 0.01)

    @contextmanager
    def serving(*hosts, after=0, right="right"):
        asked = []

        class Answers(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if given["auth"]["identity"]["password"]["user"]["password"] != right:
                    return self.answer({"error": {"message": "no", "code": 401, "title": "no"}}, 401)
                endpoint = {
                    "interface": "internal",
                    "region_id": "RegionOne",
                    "region": "RegionOne",
                    "url": url,
                    "id": "e",
                }
                catalog = [{"type": "placement", "name": "placement", "id": "s", "endpoints": [endpoint]}]
                token = {"expires_at": "2999-01-01T00:00:00.000000Z", "issued_at": "2026-01-01T00:00:00.000000Z"}
                return self.answer({"token": {**token, "methods": ["password"], "catalog": catalog}}, 201)

            def do_GET(self):
                if not self.path.startswith("/resource_providers"):
                    return self.answer({}, 404)
                (name,) = parse_qs(urlsplit(self.path).query)["name"]
                asked.append(name)
                found = [{"name": name, "uuid": f"id-of-{name}"}] if name in hosts and len(asked) > after else []
                return self.answer({"resource_providers": found}, 200)

            def answer(self, body, status):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("X-Subject-Token", "token")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        url = f"http://127.0.0.1:{server.server_port}"
        (tmp_path / "nova.conf").write_text(NOVA_CONF.format(url=url))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield str(tmp_path / "nova.conf"), asked
        finally:
            server.shutdown()
            server.server_close()

    return serving


def test_it_waits_until_placement_knows_the_host(cloud):
    with cloud("one", after=3) as (conf, asked):
        assert await_provider.wait("one", 60, conf) == ""
    assert asked == ["one"] * 4


def test_a_host_that_never_reports_is_said(cloud):
    with cloud("two") as (conf, _):
        assert "has not reported one" in await_provider.wait("one", 0.05, conf)


def test_an_account_that_is_refused_is_said_at_once(cloud):
    with cloud("one", right="another") as (conf, asked):
        assert "refuses the account" in await_provider.wait("one", 60, conf)
    assert asked == []


def test_a_cloud_that_does_not_answer_is_asked_until_the_end(cloud):
    with cloud() as (conf, _):
        pass
    assert "127.0.0.1" in await_provider.wait("one", 0.05, conf)


def test_a_host_that_the_cloud_has_already_is_refused_but_for_this_machine_itself(cloud, tmp_path):
    identity = tmp_path / "compute_id"
    with cloud("one") as (conf, _):
        assert await_provider.refusal("two", conf, str(identity)) == ""
        assert "has a host one already" in await_provider.refusal("one", conf, str(identity))
        identity.write_text("id-of-another\n")
        assert "has a host one already" in await_provider.refusal("one", conf, str(identity))
        identity.write_text("id-of-one\n")
        assert await_provider.refusal("one", conf, str(identity)) == ""


def test_a_cloud_that_does_not_answer_is_asked_before_a_name_is_taken(cloud, tmp_path, monkeypatch):
    monkeypatch.setattr(await_provider, "PATIENCE", 0.05)
    with cloud() as (conf, _):
        pass
    assert "127.0.0.1" in await_provider.refusal("one", conf, str(tmp_path / "none"))


def test_an_account_that_is_refused_is_said_before_anything_starts(cloud, tmp_path):
    with cloud("one", right="another") as (conf, _):
        assert "refuses the account" in await_provider.refusal("one", conf, str(tmp_path / "none"))


def test_the_exit_status_tells_whether_all_is_well(cloud, capsys):
    with cloud("one") as (conf, _):
        assert await_provider.main("one", "60", conf) == 0
        assert await_provider.main("two", path=conf) == 0
        assert await_provider.main("one", path=conf) == 1
    assert "has a host one already" in capsys.readouterr().err
