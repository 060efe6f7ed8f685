# SPDX-License-Identifier: Apache-2.0
"""What servers see of their machine, where it can be tried without LXCFS."""

from __future__ import annotations

import pytest

from dockstack.compute.containers.lxcfs import BLOCK_DEVICES, FILES, Lxcfs, ViewError, hidden
from dockstack.compute.containers.runtime import Mount
from dockstack.compute.privileged import lxcfs as privileged

pytestmark = pytest.mark.unit


def test_without_lxcfs_nothing_is_mounted(tmp_path) -> None:
    assert Lxcfs(None).mounts() == ()
    assert Lxcfs(None).ask() is None
    assert not Lxcfs(None).renew(1, "a" * 64)
    assert Lxcfs(tmp_path / "nowhere").mounts() == ()


def test_a_directory_that_is_no_mount_is_no_lxcfs(tmp_path) -> None:
    (tmp_path / "lxcfs" / "proc").mkdir(parents=True)
    (tmp_path / "lxcfs" / "proc" / "cpuinfo").touch()
    assert Lxcfs(tmp_path / "lxcfs").ask() is None


def test_a_server_may_start_without_them(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Lxcfs, "generation", lambda _self: 7)
    found = Lxcfs(tmp_path).mounts()
    assert found[0] == Mount(f"{tmp_path}/proc/cpuinfo", "/proc/cpuinfo", required=False)
    assert [mount.destination for mount in found] == [f"/{file}" for file in FILES]


def test_the_hosts_disks_are_hidden_with_their_hardware(tmp_path) -> None:
    disk = tmp_path / "devices" / "pci0000:00" / "virtio1" / "block" / "vda"
    disk.mkdir(parents=True)
    (tmp_path / "block").mkdir()
    (tmp_path / "block" / "vda").symlink_to(disk)
    assert hidden(tmp_path / "block") == (*BLOCK_DEVICES, str(disk.parent))
    assert hidden(tmp_path / "nowhere") == BLOCK_DEVICES


@pytest.mark.parametrize(
    ("container", "file"), [("nova-1", "proc/uptime"), ("a" * 64, "etc/passwd"), ("a" * 64, "proc/../x")]
)
def test_root_touches_nothing_but_views_of_containers(container, file) -> None:
    privileged.context.set_client_mode(False)
    with pytest.raises(ValueError, match="is no view of a server"):
        privileged.renew(1, container, "/x", [file])


def test_a_process_of_another_container_is_left_alone() -> None:
    privileged.context.set_client_mode(False)
    assert not privileged.renew(2**22 + 1, "a" * 64, "", ["proc/uptime"])


def test_what_the_kernel_refuses_is_explained(tmp_path, monkeypatch) -> None:
    def refuse(*_arguments) -> bool:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(privileged, "renew", refuse)
    with pytest.raises(ViewError, match="Operation not permitted"):
        Lxcfs(tmp_path).renew(1, "a" * 64)
