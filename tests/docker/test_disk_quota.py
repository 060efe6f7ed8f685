# SPDX-License-Identifier: Apache-2.0
"""A server that fills its disk harms only itself, where the engine's storage can hold it to its size."""

from __future__ import annotations

from private_engine import wait_for

from dockstack.compute.containers import namespaces, runtime, spec
from dockstack.compute.model import Limits
from dockstack.compute.resources.storage import read_storage
from dockstack.oci.process import ImageConfig


def boot(lab, script: str, disk_gb: int):
    server = lab.server(script, limits=Limits(vcpus=1, memory_mb=64, disk_gb=disk_gb), ports=())
    config = ImageConfig(env={"PATH": "/bin"})
    info = lab.engine.info()
    storage = read_storage(info.root_directory, info.storage_driver)
    assert storage.sized
    assert storage.device.startswith("/dev/loop")
    namespaces.prepare(server.uuid)
    wanted = spec.build_spec(server, lab.image_id, config, host="host", disk=storage.device, sized=storage.sized)
    container_id = lab.engine.create(server.container_name, wanted)
    runtime.write_patch(lab.private.patches, container_id, spec.build_patch(server, config))
    lab.engine.start(server.container_name)
    return server


def test_a_server_that_fills_its_disk_harms_only_itself(sized_lab) -> None:
    neighbour = boot(sized_lab, "exec sleep 1000", disk_gb=1)
    full = boot(sized_lab, "dd if=/dev/zero of=/fill bs=1M count=2000; echo full; exec sleep 1000", disk_gb=1)
    wait_for(lambda: b"full" in sized_lab.engine.logs(full.container_name, 1000), "the disk to be full", timeout=300)
    assert b"quota exceeded" in sized_lab.engine.logs(full.container_name, 1000).lower()
    written = int(sized_lab.run(full, "stat", "-c", "%s", "/fill"))
    assert 900 << 20 < written <= 1 << 30
    sized_lab.run(neighbour, "dd", "if=/dev/zero", "of=/mine", "bs=1M", "count=300")
    assert sized_lab.run(full, "echo", "alive") == "alive\n"
    beside = sized_lab.engine.execute(full.container_name, ["dd", "if=/dev/zero", "of=/etc/hosts", "bs=1M", "count=50"])
    assert b"quota exceeded" in beside.output.lower(), "the engine's files are beside the limit"


def test_a_server_that_made_room_starts_again(sized_lab) -> None:
    server = boot(sized_lab, "exec sleep 1000", disk_gb=1)
    sized_lab.run(server, "dd", "if=/dev/zero", "of=/fill", "bs=1M", "count=900")
    sized_lab.engine.stop(server.container_name, 0)
    sized_lab.engine.start(server.container_name)
    assert int(sized_lab.run(server, "stat", "-c", "%s", "/fill")) == 900 << 20
