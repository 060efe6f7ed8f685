# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.compute.engine import Container, ContainerSpec, Event, EventKind
from dockstack.compute.engine.records import Layers
from dockstack.compute.engine.streams import event_of, tail
from dockstack.compute.model import PowerState

pytestmark = pytest.mark.unit

UUID = "11111111-2222-3333-4444-555555555555"
LABELS = {"org.openstack.nova.uuid": UUID}


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("running", PowerState.RUNNING),
        ("paused", PowerState.PAUSED),
        ("created", PowerState.SHUTDOWN),
        ("exited", PowerState.SHUTDOWN),
        ("dead", PowerState.CRASHED),
        ("restarting", PowerState.NOSTATE),
        ("something new", PowerState.NOSTATE),
    ],
)
def test_states(word, state) -> None:
    found = Container.of_listing({"Id": "1", "Names": [f"/nova-{UUID}"], "State": word, "Labels": LABELS})
    assert found == Container("1", f"nova-{UUID}", state, LABELS)
    assert found.ours


@pytest.mark.parametrize(
    ("name", "labels", "ours"),
    [
        (f"nova-{UUID}", LABELS, True),
        (f"nova-{UUID}-old", LABELS, True),
        ("web", LABELS, False),
        (f"nova-{UUID}", {}, False),
        (f"nova-{UUID}", {"org.openstack.nova.uuid": "other"}, False),
    ],
)
def test_ours_takes_name_and_label(name, labels, ours) -> None:
    assert Container("1", name, PowerState.RUNNING, labels).ours is ours


def test_inspection() -> None:
    state = {
        "Status": "exited",
        "Pid": 0,
        "ExitCode": 3,
        "OOMKilled": True,
        "Error": "e",
        "StartedAt": "s",
        "FinishedAt": "f",
    }
    entry = {"Id": "1", "Name": "/n", "State": state, "Config": {"Labels": None}, "Image": "sha256:2", "Created": "c"}
    found = Container("1", "n", PowerState.SHUTDOWN, {}, "sha256:2", "c", 0, 3, True, "e", "s", "f")
    assert Container.of_inspection(entry) == found
    assert Container.of_inspection(entry | {"Path": "/x", "Args": ["y"]}).command == ("/x", "y")


def test_a_container_that_is_being_removed_has_no_layers() -> None:
    assert Layers.of_driver({"Name": "overlay2", "Data": None}) is None


def test_body_is_closed_by_default() -> None:
    body = ContainerSpec(image="sha256:1", hostname="h", runtime="r", labels={"a": "b"}, limits={"Memory": 1}).body()
    host = body["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] == []
    assert host["SecurityOpt"] == ["no-new-privileges=false"]
    assert host["Privileged"] is False
    assert host["Memory"] == 1
    assert body["Healthcheck"] == {"Test": ["NONE"]}
    assert "StopSignal" not in body


def test_events() -> None:
    actor = {"ID": "c", "Attributes": {**LABELS, "name": f"nova-{UUID}"}}
    assert event_of({"Action": "die", "Actor": actor, "timeNano": 5}) == Event(UUID, EventKind.STOPPED, 5, "c")
    assert event_of({"Action": "exec_start", "Actor": actor, "timeNano": 5}) is None
    foreign = {"ID": "c", "Attributes": {**LABELS, "name": "web"}}
    assert event_of({"Action": "die", "Actor": foreign, "timeNano": 5}) is None
    assert event_of({}) is None


@pytest.mark.parametrize(
    ("chunks", "limit", "lines", "expected"),
    [
        ([b"a\n", b"b\n"], 100, 10, (b"a\nb\n", True)),
        ([b"a\n", b"b\n"], 3, 10, (b"\nb\n", True)),
        ([b"a\n", b"b\n"], 100, 2, (b"a\nb\n", False)),
        ([b"a\n", b"b\n"], 0, 2, (b"", True)),
        ([], 5, 2, (b"", True)),
        ([b"x" * 1000] * 1000, 1500, 2000, (b"x" * 1500, True)),
    ],
)
def test_tail(chunks, limit, lines, expected) -> None:
    assert tail(chunks, limit, lines) == expected
