# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime

import pytest

from dockstack.deploy.recipes import provision

pytestmark = pytest.mark.unit
START = datetime(2026, 1, 1, 12, 0, 0)  # noqa: DTZ001 - Nova tells times in UTC without saying so


class Nova:
    """Nova's answers about its compute hosts."""

    def __init__(self, updated_at, state="up", *, mapped=True):
        self.updated_at, self.state, self.mapped = updated_at, state, mapped

    def call(self, method, path, body=None, **headers):
        del method, body, headers
        if path.startswith("/os-hypervisors"):
            return {"hypervisors": [{"service": {"host": "a"}}] if self.mapped else []}
        return {"services": [{"host": "a", "state": self.state, "updated_at": self.updated_at}]}


@pytest.mark.parametrize(
    ("nova", "missing"),
    [
        (Nova("2026-01-01T12:00:05"), []),
        (Nova("2026-01-01T12:00:05", "down"), []),  # forced down, for an evacuation
        (Nova("2026-01-01T11:59:59"), ["a"]),
        (Nova(None), ["a"]),
        (Nova("2026-01-01T12:00:05", mapped=False), ["a"]),
    ],
    ids=["reported", "forced-down", "before-its-start", "never", "unmapped"],
)
def test_a_host_is_awaited_until_it_has_reported_since_its_start(nova, missing):
    assert provision._missing(nova, {"a": START}) == missing


def test_hosts_with_servers_are_not_removed(monkeypatch):
    class Inhabited:
        def __init__(self, *_):
            pass

        def call(self, *_, **__):
            return {"servers": [{"name": f"web{number}"} for number in range(7)]}

    monkeypatch.setattr(provision, "Api", Inhabited)
    monkeypatch.setattr(provision, "connect", lambda _: None)
    with pytest.raises(SystemExit, match="7 servers on a-2: web0, web1, web2, web3, web4,"):
        provision.refuse_inhabited({"hosts": ["a-2"]})
