# SPDX-License-Identifier: Apache-2.0
"""What differs where the engine stores on btrfs: rescue, moves from and to it, and a limit that nobody escapes."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from moving_lab import NEW, Pair, describe, make_host, moved, no_events

from dockstack.compute.containers import runtime, spec
from dockstack.compute.flows import cold_migration, incoming_migration, lifecycle, rescue, resize
from dockstack.compute.host import disks
from dockstack.compute.model import Image, PowerState
from dockstack.compute.network import ovs
from dockstack.oci.process import ImageConfig

RESCUER = Image(id="7e5c0e00-0000-4000-8000-000000000001", name="rescuer", container_format="docker")
SLEEP = '["/bin/sh", "-c", "[ -e /kept ] || echo mine > /kept; exec sleep 1000"]'


@pytest.fixture(autouse=True)
def without_a_switch(monkeypatch):
    monkeypatch.setattr(ovs, "wait_installed", lambda _ports: set())


@pytest.fixture
def host(sized_engine, tmp_path):
    return make_host("sized", sized_engine, tmp_path / "state")


@pytest.fixture
def server(host, sized_lab):
    image = Image(id="image", name="busybox", properties={"docker_command": SLEEP})
    server = sized_lab.server(ports=(), image=image)
    lifecycle.spawn(host, server, no_events)
    sized_lab.wait_for_file(server, "/kept", "mine\n")
    yield server
    lifecycle.destroy(host, server)


def bring(lab, server, program: str) -> None:
    """Put a program of the machine into a server, with its libraries."""
    path = shutil.which(program)
    linked = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
        for name in (path, *re.findall(r"(/\S+) \(", linked)):
            archive.add(name, name)
    lab.engine.put_archive(server.container_name, "/", buffer.getvalue())


def test_no_server_escapes_its_limit_by_a_subvolume_of_its_own(host, sized_lab, server) -> None:
    bring(sized_lab, server, "btrfs")
    program = shutil.which("btrfs")
    made = sized_lab.engine.execute(server.container_name, [program, "subvolume", "create", "/more"])
    assert made.exit_code
    assert b"Operation not permitted" in made.output
    copied = sized_lab.engine.execute(server.container_name, [program, "subvolume", "snapshot", "/", "/copy"])
    assert copied.exit_code
    seen = sized_lab.run(server, "ls", "/").split()
    assert not {"more", "copy"} & set(seen)


def test_the_guard_leaves_copies_by_reference(sized_lab, server) -> None:
    bring(sized_lab, server, "cp")
    sized_lab.run(server, "dd", "if=/dev/zero", "of=/large", "bs=1M", "count=50")
    sized_lab.run(server, shutil.which("cp"), "--reflink=always", "/large", "/clone")
    assert int(sized_lab.run(server, "stat", "-c", "%s", "/clone")) == 50 << 20


@pytest.mark.parametrize("guard", ["xfs", ""])
def test_no_server_gives_its_files_to_another_project(lab, guard) -> None:
    server = lab.server(ports=())
    container_id = lab.create(server)
    runtime.write_patch(lab.private.patches, container_id, spec.build_patch(server, ImageConfig(), disk_guard=guard))
    lab.engine.start(server.container_name)
    bring(lab, server, "chattr")
    changed = lab.engine.execute(server.container_name, [shutil.which("chattr"), "+d", "/bin/busybox"])
    assert (b"Operation not permitted while setting flags" in changed.output) is bool(guard), changed


def test_a_rescue_mounts_the_servers_root_and_gives_it_back_changed(host, sized_lab, server) -> None:
    identity = sized_lab.state(server).id
    lifecycle.stop(host, server, 0)
    rescue.begin(host, replace(server, image=replace(RESCUER, properties=server.image.properties)))
    assert sized_lab.state(server).id != identity
    assert sized_lab.run(server, "cat", "/mnt/rescue/kept") == "mine\n"
    assert sized_lab.run(server, "cat", "/mnt/rescue/data/from-image") == "image\n"
    sized_lab.run(server, "sh", "-c", "echo repaired > /mnt/rescue/repaired; echo lost > /lost")
    lifecycle.reboot(host, replace(server, rescued=True), hard=True)
    assert sized_lab.run(server, "cat", "/mnt/rescue/repaired") == "repaired\n"
    rescue.end(host, server)
    assert sized_lab.state(server).id == identity
    seen = sized_lab.run(server, "ls", "/")
    assert "repaired" in seen
    assert "lost" not in seen


def test_a_disk_grows_while_its_server_runs_and_a_full_one_starts_again(host, sized_lab, server) -> None:
    def write(name: str, megabytes: int) -> bool:
        command = ["dd", "if=/dev/zero", f"of=/{name}", "bs=1M", f"count={megabytes}"]
        return sized_lab.engine.execute(server.container_name, command).exit_code == 0

    assert not write("fill", 1100)
    lifecycle.reboot(host, server, hard=True)
    assert not write("more", 50), "a restart took the limit away"

    identity, pid = sized_lab.state(server).id, sized_lab.state(server).pid
    larger = replace(server, limits=replace(server.limits, disk_gb=2))
    resize.begin(host, server, larger, 0)
    resize.fit(host, larger, power_on=True)
    assert sized_lab.state(server).pid == pid
    assert write("more", 50)
    lifecycle.reboot(host, larger, hard=True)
    assert write("again", 50)

    resize.fit(host, server, power_on=True)
    assert sized_lab.state(server).id == identity
    assert not write("last", 50)


@pytest.fixture(params=["from btrfs", "to btrfs"])
def pair(request, tmp_path, lab, sized_lab):
    here, there = (sized_lab, lab) if request.param == "from btrfs" else (lab, sized_lab)
    pair = Pair(here.private, there.private, tmp_path, here)
    yield pair
    for host in (pair.here, pair.there):
        incoming_migration.forget(host, pair.server)
        lifecycle.destroy(host, pair.server)


def test_a_server_moves_between_storage_drivers(pair) -> None:
    pair.boot()
    replaced = "b=/bin/busybox; $b rm -r /data; $b mkdir /data; echo new > /data/new"
    assert pair.lab.engine.execute(pair.server.container_name, ["/bin/sh", "-c", replaced]).exit_code == 0
    before = describe(pair.root(pair.here))
    sent = pair.send(pair.server.image)
    server = replace(pair.server, limits=NEW)
    cold_migration.finish(pair.there, server, sent, pair.server.image, no_events, power_on=False)
    layer = Path(disks.find_layer(pair.there, pair.find(pair.there)))
    if "btrfs" in str(layer):
        assert sorted(path.name for path in (layer / "data").iterdir()) == ["new"]
        assert not [name for name in os.listxattr(layer / "data") if "overlay" in name]
    else:
        assert os.getxattr(layer / "data", "trusted.overlay.opaque") == b"y"
        assert not (layer / "bin").exists(), "only what was written travels"
    lifecycle.start(pair.there, server)
    assert pair.find(pair.there).state is PowerState.RUNNING
    assert (pair.root(pair.there) / "data/new").read_text() == "new\n"
    moved(before, pair.root(pair.there))
