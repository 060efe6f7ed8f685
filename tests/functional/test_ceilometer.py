# SPDX-License-Identifier: Apache-2.0
"""Ceilometer's own classes poll Docker servers: from the entry points to the samples that it publishes."""

from __future__ import annotations

import importlib
import tomllib
from types import SimpleNamespace
from unittest import mock

import ceilometer.compute.discovery
import ceilometer.compute.virt.inspector
import ceilometer.sample
import pytest
from oslo_config import cfg

from dockstack.telemetry import ceilometer as ours
from locks import CHECKOUT
from telemetry_host import PROJECT, TelemetryHost

pytestmark = pytest.mark.functional

ENTRY_POINTS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["entry-points"]
METERS = ENTRY_POINTS["ceilometer.poll.compute"]


@pytest.fixture(params=[1, 2], ids=["cgroup 1", "cgroup 2"])
def host(request, tmp_path) -> TelemetryHost:
    return TelemetryHost(tmp_path / "host", request.param)


@pytest.fixture
def conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.StrOpt("host", default="node7"))
    conf.register_opts(ceilometer.compute.discovery.OPTS, group="compute")
    conf.register_opts(ceilometer.compute.virt.inspector.OPTS)
    conf.register_opts(ceilometer.sample.OPTS)
    conf([])
    return conf


def instance(uuid: str, **changes) -> SimpleNamespace:
    """A server as Ceilometer's client of Nova has it."""
    flavor = {"id": "1", "name": "small", "vcpus": 2, "ram": 64, "disk": 5, "ephemeral": 1}
    more = {"OS-EXT-SRV-ATTR:instance_name": "instance-00000001", "OS-EXT-STS:vm_state": "active"}
    return SimpleNamespace(
        id=uuid,
        name="web",
        flavor=flavor,
        image=None,
        hostId="abc",
        status="ACTIVE",
        metadata={},
        tenant_id=PROJECT,
        user_id="user",
        **(more | changes),
    )


def load(name: str) -> type:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def poll(conf, host: TelemetryHost, *instances) -> dict[str, list]:
    """Poll every meter as the agent does in one cycle; return the samples of each."""
    conf_inspector = ours.DockerInspector(conf, host.census(), clock=lambda: 0.0)  # one cycle is one moment
    cache: dict = {}
    with mock.patch.dict(ours._Inspected._shared, {id(conf): conf_inspector}):
        pollsters = {name: load(target)(conf) for name, target in METERS.items()}
        return {name: list(pollster.get_samples(None, cache, instances)) for name, pollster in pollsters.items()}


def test_every_meter_of_a_server_that_runs(conf, host) -> None:
    server = host.add(7)
    found = poll(conf, host, instance(server))
    assert {name.removeprefix("docker."): [sample.volume for sample in samples] for name, samples in found.items()} == {
        "power.state": [1],
        "cpu": [2_500_000_000],
        "vcpus": [2],
        "memory": [64],
        "memory.available": [64],
        "memory.usage": [8192 / 1024**2],
        "memory.resident": [4096 / 1024**2],
        "disk.device.read.bytes": [4096],
        "disk.device.read.requests": [1],
        "disk.device.write.bytes": [8192],
        "disk.device.write.requests": [2],
        "disk.root.size": [4],
        "disk.ephemeral.size": [1],
        "network.incoming.bytes": [2000],
        "network.incoming.packets": [20],
        "network.incoming.packets.drop": [4],
        "network.incoming.packets.error": [3],
        "network.outgoing.bytes": [1000],
        "network.outgoing.packets": [10],
        "network.outgoing.packets.drop": [2],
        "network.outgoing.packets.error": [1],
    }


def test_samples_have_the_usual_names_and_resources(conf, host) -> None:
    server = host.add(7)
    device = host.devices[-1][1]
    found = poll(conf, host, instance(server))
    assert [sample.name for samples in found.values() for sample in samples] == [
        name.removeprefix("docker.") for name in METERS
    ]
    (cpu,) = found["docker.cpu"]
    assert (cpu.type, cpu.unit, cpu.resource_id, cpu.project_id) == ("cumulative", "ns", server, PROJECT)
    assert cpu.resource_metadata["cpu_number"] == 2
    (disk,) = found["docker.disk.device.read.bytes"]
    assert disk.resource_id == f"{server}-root"
    (port,) = found["docker.network.incoming.bytes"]
    assert port.resource_id == f"instance-00000001-{server}-{device}"
    assert port.resource_metadata["vnic_name"] == device


def test_a_server_that_is_stopped_or_elsewhere_has_no_samples_but_its_sizes(conf, host) -> None:
    stopped = host.add(7, running=False)
    elsewhere = "0fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11"
    found = poll(conf, host, instance(stopped), instance(elsewhere))
    assert {name for name, samples in found.items() if samples} == {
        "docker.disk.root.size",
        "docker.disk.ephemeral.size",
    }


def test_one_cycle_reads_the_host_once(conf, host) -> None:
    servers = [instance(host.add(number)) for number in range(1, 6)]
    reads, read = [], ours.Census.read

    def counted(census):  # a plain function: Nova's tests change what an autospec passes on, in the whole process
        reads.append(census)
        return read(census)

    with mock.patch.object(ours.Census, "read", counted):
        found = poll(conf, host, *servers)
    assert {len(samples) for samples in found.values()} == {5}
    assert len(reads) == 1


def test_every_pollster_asks_our_discovery(conf) -> None:
    (discovery,) = ENTRY_POINTS["ceilometer.discover.compute"]
    assert {load(target)(conf).default_discovery for target in METERS.values()} == {discovery}


def test_servers_are_asked_of_nova_and_no_libvirt(conf, host) -> None:
    client = mock.Mock()
    client.instance_get_all_by_host.return_value = [
        instance("1"),
        instance("2", **{"OS-EXT-STS:vm_state": "error"}),
    ]
    with mock.patch.object(ceilometer.compute.discovery.nova_client, "Client", return_value=client):
        found = load(ENTRY_POINTS["ceilometer.discover.compute"]["docker_servers"])(conf).discover(None)
    assert [server.id for server in found] == ["1"]
    client.instance_get_all_by_host.assert_called_once_with("node7", None)


def test_ceilometer_takes_no_other_inspector_than_libvirts() -> None:
    """Why there are pollsters of ours; the day that this fails, an inspector by its name would do."""
    (option,) = ceilometer.compute.virt.inspector.OPTS
    with pytest.raises(ValueError, match="docker"):
        option.type("docker")


def test_the_next_cycle_reads_anew(conf, host) -> None:
    server, now = instance(host.add(7)), [0.0]
    inspector = ours.DockerInspector(conf, host.census(), clock=lambda: now[0])
    assert inspector.inspect_instance(server).cpu_time == 2_500_000_000
    later = {"cpuacct/cpuacct.usage": "3000000000"} if host.version == 1 else {"cpu.stat": "usage_usec 3000000"}
    host.fill(f"docker/{7:064x}", later)
    assert inspector.inspect_instance(server).cpu_time == 2_500_000_000
    now[0] = 300.0
    assert inspector.inspect_instance(server).cpu_time == 3_000_000_000
