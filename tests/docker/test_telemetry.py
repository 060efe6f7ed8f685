# SPDX-License-Identifier: Apache-2.0
"""What is told of a real server, by what its kernel counted; and that nobody's rights will do to read it."""

from __future__ import annotations

import os
import pickle

import pytest
from private_engine import wait_for

from dockstack.compute.containers import runtime
from dockstack.compute.model import Limits
from dockstack.telemetry.census import Census, Reading

NOBODY = 65534
SPIN = "while :; do :; done"


@pytest.fixture
def census(lab) -> Census:
    return Census(lab.private.patches)


def boot(lab, script: str = "exec sleep 1000", **changes):
    """A server whose owner is known, as a flow of the driver leaves word of it."""
    server = lab.boot(script, **changes)
    runtime.write_owner(lab.private.patches, lab.state(server).id, server.uuid, server.project_id)
    return server


def as_nobody(census: Census, uuid: str) -> Reading:
    """Read in a process that has given up all rights; it knows the owners, as this lab's directory is root's alone."""
    assert census.read()
    census._learn_owners = lambda: None
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(writing, pickle.dumps(census.read_one(uuid)))
        finally:
            os._exit(0)  # whatever happens: this is not the process of the tests
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pickle.loads(pipe.read())  # noqa: S301 - of our own child
    os.waitpid(child, 0)
    return found


def test_a_server_that_works(lab, census) -> None:
    server = boot(lab, SPIN, limits=Limits(vcpus=1, memory_mb=64, disk_gb=1, cpu_period=100_000, cpu_quota=5_000))
    wait_for(lambda: census.read_one(server.uuid).used.cpu_ns > 200_000_000, "processor time")
    wait_for(lambda: census.read_one(server.uuid).used.throttled_ns > 0, "its quota to count")
    found = census.read_one(server.uuid)
    assert (found.project, found.used.cpus, found.used.memory_max_bytes) == ("project", 0.05, 64 << 20)
    assert 0 < found.used.working_set_bytes <= found.used.memory_bytes < 64 << 20
    assert found.used.pids >= 1


def test_paused_and_stopped(lab, census) -> None:
    server = boot(lab)
    assert not census.read_one(server.uuid).used.paused
    lab.engine.pause(server.container_name)
    assert census.read_one(server.uuid).used.paused
    lab.engine.unpause(server.container_name)
    lab.engine.stop(server.container_name, 0)
    assert census.read_one(server.uuid).used is None


def test_what_a_port_carries(lab, census) -> None:
    server = boot(lab)
    (port,) = server.ports
    before = census.read_one(server.uuid).ports[port.device]
    address = port.addresses[0].gateway
    lab.engine.execute(server.container_name, ["ping", "-c", "2", "-w", "2", address])  # nobody answers; it asks who
    after = census.read_one(server.uuid).ports[port.device]
    assert after.tx_packets > before.tx_packets
    assert after.tx_octets > before.tx_octets


def test_nobody_may_read_it(lab, census) -> None:
    server = boot(lab, SPIN)
    wait_for(lambda: census.read_one(server.uuid).used.cpu_ns > 0, "processor time")
    found = as_nobody(census, server.uuid)
    assert found.used.cpu_ns > 0
    assert found.used.memory_max_bytes == 64 << 20
    assert set(found.ports) == {port.device for port in server.ports}
