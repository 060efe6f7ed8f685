# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from dockstack.bench import fixture
from dockstack.bench.fixture import Request, prepare, set_up

pytestmark = pytest.mark.unit


def test_servers_go_before_the_quota_that_they_need(monkeypatch, tmp_path):
    done = []
    limits = {"instances": 10, "cores": 20, "ram": 51200}
    compute = SimpleNamespace(
        get_quota_set=lambda _project: SimpleNamespace(**limits),
        update_quota_set=lambda _project, **values: done.append(values["instances"]),
    )
    monkeypatch.setattr(fixture, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(fixture, "delete_all", lambda _connection: done.append("delete"))
    monkeypatch.setattr(fixture, "prepare", lambda *_arguments: "fixture")
    connection = SimpleNamespace(compute=compute, current_project_id="p")
    with set_up(connection, Request("image", "flavor", "network", baseline=False), print):
        done.append("measure")
    assert done == ["delete", fixture.UNLIMITED, "measure", "delete", 10]


def cloud(*hosts):
    """A cloud with these hosts, in which each server is ACTIVE at once."""
    found = SimpleNamespace(id="x", ram=64)
    services = [
        SimpleNamespace(host=each, state="up", availability_zone="nova")
        for each in (*hosts, f"{fixture.PREFIX}baseline")
    ]
    asked = []
    return asked, SimpleNamespace(
        image=SimpleNamespace(find_image=lambda _name: found),
        network=SimpleNamespace(find_network=lambda _name: found),
        compute=SimpleNamespace(
            find_flavor=lambda _name: found,
            services=lambda binary: services,
            create_server=lambda **request: asked.append(request) or found,
            get_server=lambda _id: SimpleNamespace(status="ACTIVE"),
        ),
    )


@pytest.mark.parametrize(
    ("hosts", "chosen"),
    [(("host2", "machine"), "machine"), (("machine",), None), (("far", "further"), None)],
    ids=["of several, the one whose engine is asked", "nothing to choose", "none is here"],
)
def test_servers_boot_where_the_engine_is(monkeypatch, hosts, chosen):
    asked, connection = cloud(*hosts)
    monkeypatch.setattr(fixture, "find_engine", lambda _server_id: (None, "", "none"))
    monkeypatch.setattr(fixture.socket, "gethostname", lambda: "machine")
    with ExitStack() as stack:
        made = prepare(connection, Request("image", "flavor", "network", baseline=False), stack, lambda _text: None)
    (keeper,) = asked
    assert keeper.get("host") == made.server.host == chosen
    assert keeper["availability_zone"] == "nova"
