# SPDX-License-Identifier: Apache-2.0
"""A host in memory with one image in its Glance."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
from oslo_config import cfg

from dockstack.compute import conf
from dockstack.compute.host.host import Host, build_host
from dockstack.compute.model import Address, Image, Limits, Port, Server
from fake_host import World, image_archive
from sample_server import SERVER

UUID = "0fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11"


def make_server(uuid: str = UUID, **changes) -> Server:
    ports = tuple(
        Port(
            id=f"{number}{uuid[1:]}",
            mac=f"fa:16:3e:00:00:0{number}",
            device=f"tap{number}{uuid[1:11]}",
            interface=f"eth{number}",
            network_id="net",
            mtu=1442,
            addresses=(Address(f"10.0.{number}.5/24", f"10.0.{number}.1"),),
        )
        for number in range(2)
    )
    image = Image(id="8f6d1f3e-0000-4000-8000-000000000000", name="sample", container_format="docker")
    server = replace(SERVER, uuid=uuid, image=image, limits=Limits(vcpus=1, memory_mb=64, disk_gb=1), ports=ports)
    return replace(server, **changes)


def no_events(_ports=()):
    return nullcontext(set())


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    world = World(tmp_path)
    for owner, name, fake in world.doors():
        monkeypatch.setattr(owner, name, fake)
    return world


def make_host(world: World, name: str = "host1", download=None) -> Host:
    options = cfg.ConfigOpts()
    conf.register(options)
    options.set_override("state_directory", str(world.directory), group="docker")
    options.set_override("patch_directory", str(world.patches), group="docker")
    options.set_override("lxcfs_directory", str(world.directory / "lxcfs"), group="docker")
    host = build_host(name, options.docker, download or (lambda _image: iter([image_archive()])))
    host.images.sweep()
    host.storage()  # as when the service starts
    world.calls.clear()
    return host


@pytest.fixture
def host(world) -> Host:
    return make_host(world)
