# SPDX-License-Identifier: Apache-2.0
"""Volumes that an image declares make no volume in the engine, and nothing of them lies outside the server's disk."""

from __future__ import annotations

import itertools
import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from server_lab import docker_archive, lab_host

import docker
from dockstack.compute.containers import namespaces, runtime, spec
from dockstack.compute.containers.volumes import MOST
from dockstack.compute.flows import lifecycle
from dockstack.compute.model import Image, InjectedFile
from dockstack.oci.process import ImageConfig

_numbers = itertools.count(1)


@pytest.fixture
def spawn(lab, private_engine):
    """Make a server from an image that declares volumes, as the driver does."""
    made = []

    def work(volumes: list[str], command: tuple[str, ...] = (), **changes):
        archive = docker_archive({"Volumes": {volume: {} for volume in volumes}})
        host = lab_host(private_engine, private_engine.directory, lambda _image: iter([archive]))
        server = lab.server(ports=(), **changes)
        key = f"volumes-{os.getpid()}-{next(_numbers)}"
        properties = {"docker_command": json.dumps(command)} if command else server.image.properties
        server = replace(server, image=Image(id=key, name=key, properties=properties))
        made.append((host, server))
        lifecycle.spawn(host, server, lambda _ports: nullcontext(set()))
        return host, server

    yield work
    for host, server in made:
        lifecycle.destroy(host, server)


def engines_volumes(engine) -> tuple[list, list[str]]:
    """Return what the engine has, and what lies below its data root."""
    client = docker.APIClient(base_url=engine.url)
    found = client.volumes()["Volumes"] or []
    client.close()
    directory = Path(engine.directory / "data" / "volumes")
    return found, sorted(entry.name for entry in directory.iterdir() if entry.is_dir()) if directory.exists() else []


@pytest.mark.parametrize(
    "declared",
    [
        ["/data"],
        ["/data", "/data/", "//data", "/data/nested", "/data/nested/deeper", "/bin", "/x/../etc"],
        ["/nowhere", "/data/from-image", "/with space/ü\n", "/run", "/tmp"],
        ["/sys/fs/cgroup", "/dev/shm", "/data"],
        [f"/many/{number}" for number in range(MOST - 1)] + ["/data"],
    ],
)
def test_no_volume_is_made_and_the_images_files_show(spawn, lab, private_engine, declared) -> None:
    before = engines_volumes(private_engine)
    host, server = spawn(declared, files=(InjectedFile("/data/mine", b"injected\n"),))
    assert engines_volumes(private_engine) == before
    assert lab.run(server, "cat", "/data/from-image", "/data/mine") == "image\ninjected\n"
    mounts = lab.run(server, "cat", "/proc/mounts")
    assert " /data" not in mounts
    assert " /bin " not in mounts
    lab.run(server, "sh", "-c", "echo kept > /data/new")
    lifecycle.reboot(host, server, hard=True)
    assert lab.run(server, "cat", "/data/new", "/data/mine") == "kept\ninjected\n"
    assert engines_volumes(private_engine) == before
    lifecycle.destroy(host, server)
    assert engines_volumes(private_engine) == before


def test_an_inits_own_run_stays_a_tmpfs(spawn, lab, private_engine) -> None:
    before = engines_volumes(private_engine)
    _, server = spawn(["/run", "/data"], command=("/bin/init",))
    mounts = [line.split()[1:3] for line in lab.run(server, "cat", "/proc/mounts").splitlines()]
    assert ["/run", "tmpfs"] in mounts
    assert lab.run(server, "cat", "/data/from-image") == "image\n"
    assert engines_volumes(private_engine) == before


@pytest.mark.parametrize("declared", ["/", "data", "", "/proc/sys", "/dev"])
def test_a_volume_where_none_can_be_is_this_requests_end(spawn, private_engine, declared) -> None:
    before = engines_volumes(private_engine)
    with pytest.raises(lifecycle.Unbuildable, match="declares a volume at"):
        spawn([declared])
    assert engines_volumes(private_engine) == before


def test_a_container_of_an_older_driver_keeps_its_files(lab, private_engine, engine) -> None:
    """Its volumes are the engine's, and its label names them: they are taken off as before."""
    image_id = engine.load_image([docker_archive({"Volumes": {"/data": {}}})])[0]
    server = lab.server(ports=())
    config = ImageConfig(env={"PATH": "/bin"}, volumes=("/data",))
    old = replace(spec.build_spec(server, image_id, config, host="host"), mounts=())
    namespaces.prepare(server.uuid)
    container_id = engine.create(server.container_name, old)
    assert engines_volumes(private_engine)[0], "an engine's volume is what this test is about"
    found = ImageConfig(volumes=lifecycle.declared_volumes(engine.container(server.container_name)))
    runtime.write_patch(private_engine.patches, container_id, spec.build_patch(server, found))
    engine.start(server.container_name)
    assert " /data " not in lab.run(server, "cat", "/proc/mounts")
    assert lab.run(server, "cat", "/data/from-image") == "image\n"
