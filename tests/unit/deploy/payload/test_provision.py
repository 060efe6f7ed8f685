# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import urllib.parse
from datetime import datetime

import pytest

from dockstack.deploy.payload import provision

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


@pytest.mark.parametrize(("desired", "agents"), [({}, ["agent1"]), ({"agents": False}, [])])
def test_a_host_is_forgotten_by_its_compute_service_alone(monkeypatch, desired, agents):
    asked, deleted = [], []

    class Cloud:
        def __init__(self, *_):
            pass

        def call(self, method, path, *_, query=None, **__):
            if method == "DELETE":
                deleted.append(path.rpartition("/")[2])
            asked.append((path, query))
            return {"services": [{"id": "compute1"}], "agents": [{"id": "agent1"}]}

    monkeypatch.setattr(provision, "Api", Cloud)
    monkeypatch.setattr(provision, "connect", lambda _: None)
    provision.forget_hosts({"hosts": ["a"], **desired})
    assert asked[0] == ("/os-services", {"host": "a", "binary": "nova-compute"}), "a controller has others by its name"
    assert deleted == ["compute1", *agents]


def test_hosts_go_into_an_aggregate_that_is_made_once(monkeypatch):
    kept, asked = [], []

    class Nova:
        def __init__(self, *_):
            pass

        def call(self, method, path, body=None):
            asked.append(method)
            if path.endswith("/action"):
                ((action, values),) = body.items()
                kept[0].setdefault("metadata", {}).update(values.get("metadata", {}))
                kept[0]["hosts"] += [values["host"]] if action == "add_host" else []
            elif method == "POST":
                kept.append({"id": 1, "name": body["aggregate"]["name"], "hosts": []})
                return {"aggregate": {"id": 1, "name": body["aggregate"]["name"]}}
            return {"aggregates": kept}

    monkeypatch.setattr(provision, "Api", Nova)
    monkeypatch.setattr(provision, "connect", lambda _: None)
    desired = {"aggregate": "docker", "hosts": ["a", "a-2"], "properties": {"img_hv_type": "docker"}}
    provision.provide_aggregate(desired)
    assert kept == [{"id": 1, "name": "docker", "hosts": ["a", "a-2"], "metadata": {"img_hv_type": "docker"}}]
    asked.clear()
    provision.provide_aggregate(desired)
    assert asked == ["GET"]


class Keystone:
    """Keystone's registered limits, as far as its API lets one change them."""

    def __init__(self, **limits):
        self.limits = limits
        self.changes = []

    def one(self, collection, **query):
        assert collection == "services"
        return {"id": f"id-of-{query['name']}"}

    def call(self, method, path, body=None, query=None):
        if method == "GET":
            assert (path, query) == ("/registered_limits", {"service_id": "id-of-glance", "region_id": "North"})
            listed = [{"id": name, "resource_name": name, "default_limit": self.limits[name]} for name in self.limits]
            return {"registered_limits": listed}
        if method == "POST":
            for limit in body["registered_limits"]:
                assert (limit["service_id"], limit["region_id"]) == ("id-of-glance", "North")
                self.limits[limit["resource_name"]] = limit["default_limit"]
        else:
            self.limits[path.removeprefix("/registered_limits/")] = body["registered_limit"]["default_limit"]
        self.changes.append(method)
        return {}


@pytest.mark.parametrize(
    ("limits", "changes"),
    [
        ({}, ["POST"]),
        ({"images": 1, "size": 2}, []),
        ({"images": 1, "size": 9}, ["PATCH"]),
        ({"images": 9}, ["POST", "PATCH"]),
        ({"images": 1, "size": 2, "foreign": 3}, []),
    ],
    ids=["none", "all", "another-value", "one-is-missing", "somebody-elses"],
)
def test_limits_are_registered_or_brought_to_the_desired_state(monkeypatch, limits, changes):
    keystone = Keystone(**limits)
    monkeypatch.setattr(provision, "Api", lambda *_: keystone)
    monkeypatch.setattr(provision, "connect", lambda _: None)
    provision.provide_limits({"region": "North", "limits": {"glance": {"images": 1, "size": 2}}})
    assert keystone.limits == {**limits, "images": 1, "size": 2}
    assert keystone.changes == changes


def test_limits_of_a_service_that_is_not_there_are_refused(monkeypatch):
    keystone = Keystone()
    monkeypatch.setattr(keystone, "one", lambda *_, **__: None)
    monkeypatch.setattr(provision, "Api", lambda *_: keystone)
    monkeypatch.setattr(provision, "connect", lambda _: None)
    with pytest.raises(SystemExit, match="Service glance is missing"):
        provision.provide_limits({"region": "North", "limits": {"glance": {"images": 1}}})


class Session:
    """An HTTP service that keeps what it is given, and finds it again only by its very name."""

    def __init__(self):
        self.members: list[dict] = []
        self.asked: list[str] = []

    def request(self, url, method, *, endpoint_filter, json, headers):
        del endpoint_filter, headers
        self.asked.append(url)
        path, _, query = url.partition("?")
        if method == "POST":
            (values,) = json.values()
            self.members.append({**values, "id": str(len(self.members))})
            return Answer({next(iter(json)): self.members[-1]})
        wanted = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        found = [one for one in self.members if all(str(one.get(name)) == value for name, value in wanted.items())]
        return Answer({path.rpartition("/")[2].replace("-", "_"): found})


class Answer:
    content = b"some"

    def __init__(self, document):
        self._document = document

    def json(self):
        return self._document


@pytest.mark.parametrize("name", ["plain", "a&b", "a=b&c#d", "100%", "ü +", "two\nlines", "?x=1", "a/b", "\x1b[2J"])
def test_what_has_an_odd_name_is_found_again(name, capsys):
    session = Session()
    api = provision.Api(session, "network", "/v2.0")
    first = api.ensure("network", {"name": name}, name=name)
    assert api.ensure("network", {"name": name}, name=name) == first
    assert len(session.members) == 1
    assert capsys.readouterr().out.count("\n") == 1


class Users:
    """Keystone's users."""

    def __init__(self, *present):
        self.present, self.changes = present, []

    def one(self, collection, **query):
        return {"id": query["name"]} if query["name"] in self.present else None

    def call(self, method, path, body=None, **_):
        self.changes.append((method, path))
        return {"user": {"id": "new"}}


def test_a_persons_password_is_set_once_and_a_services_always():
    keystone = Users("nova", "demo")
    provision._user(keystone, "nova", "secret")
    provision._user(keystone, "demo", "secret", ours=False)
    provision._user(keystone, "other", "secret", ours=False)
    assert keystone.changes == [("PATCH", "/users/nova"), ("POST", "/users")]


def test_types_of_volumes_are_made_once(monkeypatch):
    made = []

    class Cinder:
        def __init__(self, *_):
            pass

        def call(self, method, path, body=None, **_):
            if method == "POST":
                made.append(body["volume_type"]["name"])
            return {"volume_types": [{"name": "file"}]}

    monkeypatch.setattr(provision, "Api", Cinder)
    monkeypatch.setattr(provision, "connect", lambda _: None)
    provision.provide_volume_types({"volume_types": [{"name": "file"}, {"name": "file-multiattach"}]})
    assert made == ["file-multiattach"]


def test_a_service_that_nobody_runs_leaves_the_catalogue_and_no_other_does(monkeypatch, capsys):
    deleted = []

    class Keystone:
        def __init__(self, *_):
            pass

        def call(self, method, path, *_, query=None):
            if method == "DELETE":
                deleted.append(path)
            assert method == "DELETE" or query == {"name": "ours", "type": "container-registry"}
            return {"services": [{"id": "s1"}]}

    monkeypatch.setattr(provision, "Api", Keystone)
    monkeypatch.setattr(provision, "connect", lambda _: None)
    provision.withdraw({"services": [{"name": "ours", "type": "container-registry", "url": "http://192.0.2.1"}]})
    assert deleted == ["/services/s1"]
    assert capsys.readouterr().out == "withdrew service ours\n"


def test_a_flavor_whose_id_is_taken_gets_one_of_novas_and_one_that_is_there_stays(monkeypatch):
    kept = [{"id": "4", "name": "m1.medium"}, {"id": "x", "name": "mine"}]

    class Nova:
        def __init__(self, *_):
            pass

        def call(self, method, path, body=None, query=None):
            assert path == "/flavors"
            if method == "GET":
                assert query == {"is_public": "None"}, "private ones have names, too"
                return {"flavors": list(kept)}
            flavor = {"id": "novas", **body["flavor"]}
            assert flavor["id"] not in {each["id"] for each in kept}, "Nova refuses that"
            kept.append(flavor)
            return {"flavor": flavor}

    monkeypatch.setattr(provision, "Api", Nova)
    monkeypatch.setattr(provision, "connect", lambda _: None)
    wanted = [{"id": "4", "name": "m1.large"}, {"id": "d1", "name": "ds512M"}, {"name": "mine"}, {"name": "ds512M"}]
    provision.provide_flavors({"flavors": wanted})
    assert [(each["id"], each["name"]) for each in kept[2:]] == [("novas", "m1.large"), ("d1", "ds512M")]


def test_an_encrypted_type_has_its_name_when_it_is_complete(monkeypatch):
    """Killed before that, a second run would take a type that encrypts nothing for the one that is wanted."""
    calls, left = [], [{"name": "secret.new", "id": "left"}]

    class Cinder:
        def __init__(self, *_):
            pass

        def call(self, method, path, body=None, **_):
            if method == "GET":
                return {"volume_types": left}
            calls.append((method, path, body))
            return {"volume_type": {"id": "new"}}

    monkeypatch.setattr(provision, "Api", Cinder)
    monkeypatch.setattr(provision, "connect", lambda _: None)
    provision.provide_volume_types({"volume_types": [{"name": "secret", "encryption": {"provider": "luks"}}]})
    assert calls == [
        ("DELETE", "/types/left", None),
        ("POST", "/types", {"volume_type": {"name": "secret.new"}}),
        ("POST", "/types/new/encryption", {"encryption": {"provider": "luks"}}),
        ("PUT", "/types/new", {"volume_type": {"name": "secret"}}),
    ]
