# SPDX-License-Identifier: Apache-2.0
"""Another image in a server's place, with the server's root file system in it, on a real engine."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from private_engine import wait_for
from server_lab import docker_archive, lab_host

from dockstack.compute.containers import namespaces
from dockstack.compute.engine import EngineError
from dockstack.compute.flows import crash_dump, lifecycle, rescue
from dockstack.compute.host import originals
from dockstack.compute.host.set_aside import find_rescued, name_rescued
from dockstack.compute.model import Image, PowerState
from dockstack.compute.network import ovs

RESCUER = Image(id="7e5c0e00-0000-4000-8000-000000000001", name="rescuer", container_format="docker")


@pytest.fixture
def host(private_engine, engine, tmp_path, monkeypatch):
    for name in ("plug", "unplug", "unplug_device"):
        monkeypatch.setattr(ovs, name, lambda *_arguments: None)
    return lab_host(private_engine, tmp_path, lambda _image: iter([docker_archive({"Cmd": ["/bin/sleep", "2000"]})]))


@pytest.fixture
def server(lab, host):
    server = lab.boot("[ -e /kept ] || echo mine > /kept; exec sleep 1000")
    lab.wait_for_file(server, "/kept", "mine\n")
    yield server
    lifecycle.destroy(host, server)


def rescuing(server):
    return replace(server, image=RESCUER, metadata={})


def test_the_servers_root_is_mounted_and_comes_back_changed(lab, host, server) -> None:
    identity = lab.state(server).id
    lifecycle.stop(host, server, 0)

    rescue.begin(host, rescuing(server))
    assert lab.run(server, "cat", "/mnt/rescue/kept") == "mine\n"
    assert lab.run(server, "cat", "/mnt/rescue/data/from-image") == "image\n"
    assert "2000" in lab.run(server, "cat", "/proc/1/cmdline")
    lab.run(server, "sh", "-c", "echo repaired > /mnt/rescue/kept; echo new > /mnt/rescue/new; echo lost > /lost")
    assert {nic.name for nic in namespaces.interfaces(server.uuid)} == {"eth0"}
    assert server.ports[0].mac in lab.run(server, "ip", "link")
    assert lab.run(server, "hostname").strip() == server.hostname
    assert find_rescued(host, server.uuid).state is PowerState.SHUTDOWN
    assert [found.current for found in lab.engine.containers() if found.server_uuid == server.uuid].count(True) == 1

    rescue.end(host, server)
    assert lab.state(server).id == identity
    assert find_rescued(host, server.uuid) is None
    assert lab.run(server, "cat", "/new") == "new\n"
    seen = lab.run(server, "ls", "/")
    assert "lost" not in seen
    assert "rescue" not in seen


def test_a_rescue_survives_a_restart_and_an_engine_that_was_killed(lab, host, server, private_engine) -> None:
    lifecycle.stop(host, server, 0)
    rescue.begin(host, rescuing(server))
    lifecycle.reboot(host, replace(server, rescued=True), hard=True)
    assert lab.run(server, "cat", "/mnt/rescue/kept") == "mine\n"
    private_engine.kill()
    private_engine.start()
    assert lab.run(server, "cat", "/mnt/rescue/kept") == "mine\n"
    lifecycle.reboot(host, replace(server, rescued=True), hard=True)
    assert lab.run(server, "cat", "/mnt/rescue/kept") == "mine\n"
    rescue.end(host, server)
    assert lab.state(server).state is PowerState.RUNNING


def test_a_reboot_ends_a_rescue_that_nova_does_not_know_of(lab, host, server) -> None:
    identity = host.container(server.uuid).id
    lifecycle.stop(host, server, 0)
    rescue.begin(host, rescuing(server))
    lifecycle.reboot(host, server, hard=True)
    assert host.container(server.uuid).id == identity
    assert find_rescued(host, server.uuid) is None
    assert lab.state(server).state is PowerState.RUNNING


def test_nothing_is_mounted_on_the_host(lab, host, server) -> None:
    lifecycle.stop(host, server, 0)
    rescue.begin(host, rescuing(server))
    mounts = Path("/proc/mounts").read_text()
    assert find_rescued(host, server.uuid).layers.upper not in mounts
    assert "/mnt/rescue" not in mounts


def test_a_hostile_root_or_image_reaches_nothing_of_the_host(lab, host, server) -> None:
    lab.run(server, "sh", "-c", "ln -s / /outside; ln -s ../../../../../../etc /climb; ln -s /proc/1/root /jump")
    lifecycle.stop(host, server, 0)
    rescue.begin(host, rescuing(server))
    root = lab.run(server, "ls", "/mnt/rescue/outside/")
    assert "mnt" in root
    assert "boot" not in root
    assert "work" not in root
    assert "mnt" in lab.run(server, "ls", "/mnt/rescue/jump/")


def test_an_image_whose_mount_point_is_a_link_mounts_in_itself(lab, host, engine, server) -> None:
    lab.run(server, "sh", "-c", "mkdir -p /etc; ln -s /../../../../etc /mnt")
    committed = ["docker", "-H", engine.base_url, "commit", server.container_name, "test:link"]
    image_id = subprocess.run(committed, check=True, capture_output=True, text=True).stdout.strip()
    try:
        lifecycle.stop(host, server, 0)
        host.images.ensure = lambda *_arguments: LoadedLike(image_id)
        rescue.begin(host, rescuing(server))
        assert not Path("/etc/rescue").exists()
        assert lab.run(server, "cat", "/etc/rescue/kept") == "mine\n"
    finally:
        originals.restore(host, server)
        engine.remove_image("test:link")


class LoadedLike:
    def __init__(self, image_id: str) -> None:
        from dockstack.oci.process import ImageConfig  # noqa: PLC0415

        self.engine_id, self.config = image_id, ImageConfig(env={"PATH": "/bin"}, command=("/bin/sleep", "1000"))


def test_what_is_set_aside_cannot_be_started_beside(lab, host, server) -> None:
    lifecycle.stop(host, server, 0)
    rescue.begin(host, rescuing(server))
    with pytest.raises(EngineError, match="no network was prepared"):
        lab.engine.start(name_rescued(server.uuid))


def test_a_rescue_that_fails_leaves_the_server_as_it_was(lab, host, server) -> None:
    identity = lab.state(server).id
    lifecycle.stop(host, server, 0)
    broken = replace(rescuing(server), metadata={"docker_command": json.dumps(["/bin/nothing"])})
    with pytest.raises(EngineError):
        rescue.begin(host, broken)
    assert lab.state(server).id == identity
    lifecycle.start(host, server)
    assert lab.run(server, "cat", "/kept") == "mine\n"


def test_destroy_removes_both(lab, host, server) -> None:
    lifecycle.stop(host, server, 0)
    rescue.begin(host, rescuing(server))
    lifecycle.destroy(host, server)
    assert not [found for found in lab.engine.containers() if found.server_uuid == server.uuid]


def test_a_suspended_server_goes_on_where_it_was(lab, host, server) -> None:
    pid = lab.state(server).pid
    lifecycle.pause(host, server)
    assert lifecycle.resume(host, server)
    assert lab.state(server).pid == pid
    lifecycle.pause(host, server)
    lab.engine.unpause(server.container_name)  # as a restart of the engine without live-restore leaves it
    lab.engine.stop(server.container_name, 0)
    assert not lifecycle.resume(host, server)
    assert lab.state(server).state is PowerState.RUNNING


def test_a_crash_dump_is_the_first_processs_own(lab, host) -> None:
    server = lab.boot("trap 'echo dumped' ABRT; while :; do sleep 0.1; done")
    wait_for(lambda: crash_accepted(host, server), "the handler")
    wait_for(lambda: b"dumped" in lab.engine.logs(server.container_name, 1000), "the dump")
    with pytest.raises(crash_dump.Undumpable, match="does not handle SIGQUIT"):
        crash_dump.dump(host, replace(server, metadata={"docker_crash_signal": "SIGQUIT"}))
    lifecycle.stop(host, server, 0)
    with pytest.raises(crash_dump.Undumpable, match="does not run"):
        crash_dump.dump(host, server)


def crash_accepted(host, server) -> bool:
    try:
        crash_dump.dump(host, server)
    except crash_dump.Undumpable:
        return False
    return True
