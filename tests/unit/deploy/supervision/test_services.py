# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from dockstack.deploy.supervision.services import (
    Check,
    CheckKind,
    Service,
    definition_hash,
    from_json,
    in_start_order,
    in_stop_order,
    to_json,
)

pytestmark = pytest.mark.unit

SERVICE = Service(
    name="nova-api", command=("/bin/true", "a b"), environment={"A": "1"}, requires=("mariadb",),
    check=Check(CheckKind.HTTP, "http://127.0.0.1:1/", statuses=(200,)), prepare=(("mkdir", "/x"),), watch=("/etc/x",),
)  # fmt: skip


def test_a_service_survives_its_record():
    assert from_json(json.loads(json.dumps(to_json(SERVICE)))) == SERVICE


def test_a_record_of_another_version_is_read_as_far_as_it_is_known():
    assert from_json({"name": "x", "command": ["y"], "colour": "red"}) == Service(name="x", command=("y",))


def test_services_start_after_those_that_they_require():
    api, database = SERVICE, Service(name="mariadb", command=("m",))
    assert [service.name for service in in_start_order([api, database])] == ["mariadb", "nova-api"]


def test_what_requires_itself_is_refused():
    one = Service(name="a", command=("x",), requires=("b",))
    other = Service(name="b", command=("x",), requires=("a",))
    with pytest.raises(ValueError, match="a > b > a"):
        in_start_order([one, other])


@pytest.mark.parametrize(
    ("unit", "watched", "versions"),
    [("other", {"/etc/x": "1"}, {"p": "1"}), ("u", {"/etc/x": "2"}, {"p": "1"}), ("u", {"/etc/x": "1"}, {"p": "2"})],
)
def test_unit_configuration_and_version_each_decide_on_a_restart(unit, watched, versions):
    before = definition_hash(SERVICE, "u", {"/etc/x": "1"}, {"p": "1"})
    assert definition_hash(SERVICE, "u", {"/etc/x": "1"}, {"p": "1"}) == before
    assert definition_hash(SERVICE, unit, watched, versions) != before


def test_a_service_stops_after_those_that_require_it():
    stopped = []
    services = [
        Service(name="mariadb", command=("x",)),
        Service(name="keystone", command=("x",), requires=("mariadb",)),
        Service(name="nova", command=("x",), requires=("keystone", "mariadb")),
    ]
    in_stop_order(services, lambda service: stopped.append(service.name))
    assert stopped == ["nova", "keystone", "mariadb"]
    in_stop_order([], stopped.append)
