# SPDX-License-Identifier: Apache-2.0
"""How a host reaches volumes of other backends: os-brick's own connectors, with commands and kernel that are stand-ins.

No kernel that can do it was at hand: what is tried is what is asked of os-brick, and what of the host by it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from os_brick import executor
from os_brick import privileged as brick_privileged
from os_brick.initiator import linuxfc, linuxscsi
from os_brick.initiator import utils as initiator_utils
from os_brick.initiator.connectors import fibre_channel, nvmeof, rbd
from os_brick.remotefs import remotefs
from oslo_concurrency import lockutils, processutils

from dockstack.compute.model import Volume
from dockstack.compute.volumes import connector

pytestmark = pytest.mark.functional

UUID = "6f7b4a3e-0c58-4f5e-9a83-3b1f2f0b6a10"
TARGET, PORTAL = "iqn.2010-10.org.openstack:volume-1", "192.0.2.7:3260"
ISCSI = {"target_portal": PORTAL, "target_iqn": TARGET, "target_lun": 1, "target_discovered": False}
CHAP = {"auth_method": "CHAP", "auth_username": "me", "auth_password": "secret"}


def volume(protocol: str, data: dict) -> Volume:
    return Volume(UUID, "vdb", protocol, data)


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A host on which commands succeed; yields those that were run, a line each."""
    commands: list[str] = []

    def run(_self, *words, **_more):
        line = " ".join(map(str, words))
        commands.append(line)
        if line == "iscsiadm -m session":
            logged_in = any(command.endswith("--login") for command in commands)
            return (f"tcp: [1] {PORTAL},1 {TARGET} (non-flash)\n" if logged_in else ""), ""
        if "rbd showmapped" in line:
            return '[{"id":"0","pool":"volumes","name":"volume-1","snap":"-","device":"/dev/rbd0"}]', ""
        return "", ""

    monkeypatch.setattr(executor.Executor, "_execute", run)
    monkeypatch.setattr(processutils, "execute", lambda *words, **more: run(None, *words, **more))
    lockutils.set_defaults(str(tmp_path))
    monkeypatch.setattr(brick_privileged.default, "client_mode", False)
    monkeypatch.setattr(initiator_utils, "ISCSI_SUPPORTS_MANUAL_SCAN", True)
    scsi = linuxscsi.LinuxSCSI
    monkeypatch.setattr(scsi, "get_hctl", lambda *_arguments: ("3", "0", "0", 1))
    monkeypatch.setattr(scsi, "scan_iscsi", lambda *_arguments: commands.append("scan"))
    monkeypatch.setattr(scsi, "device_name_by_hctl", lambda *_arguments: "sdq")
    monkeypatch.setattr(scsi, "get_sysfs_wwn", lambda *_arguments: "36000")
    monkeypatch.setattr(connector, "SHARES_DIRECTORY", str(tmp_path))
    return commands


@pytest.mark.parametrize("secret", [{}, CHAP], ids=["open", "chap"])
def test_iscsi_ends_in_a_device_of_the_host(host, secret):
    assert connector.connect(volume("iscsi", ISCSI | secret)) == "/dev/sdq"
    assert any(TARGET in line and PORTAL in line and line.endswith("--login") for line in host)
    told = [line.partition("node.session.auth.")[2] for line in host if "node.session.auth." in line]
    wanted = ["authmethod -v CHAP", "username -v me", "password -v secret"] if secret else []
    assert told == wanted


def test_fibre_channel_ends_in_a_device_of_the_host(host, monkeypatch):
    device = "/dev/disk/by-path/pci-0000:05:00.2-fc-0x1234567890123456-lun-1"
    hba = {
        "host_device": "host1",
        "node_name": "20",
        "port_name": "10",
        "device_path": "/sys/devices/x/0000:05:00.2/host1",
    }
    monkeypatch.setattr(linuxfc.LinuxFibreChannel, "get_fc_hbas_info", lambda _self: [hba])
    monkeypatch.setattr(linuxfc.LinuxFibreChannel, "rescan_hosts", lambda *_arguments, **_more: host.append("scan"))
    monkeypatch.setattr(fibre_channel.FibreChannelConnector, "get_volume_paths", lambda *_arguments: [device])
    monkeypatch.setattr(fibre_channel.os.path, "exists", lambda _path: True)
    monkeypatch.setattr(fibre_channel.os.path, "realpath", lambda _path: "/dev/sdb")
    monkeypatch.setattr(linuxscsi.LinuxSCSI, "wait_for_rw", lambda *_arguments: None)
    monkeypatch.setattr(linuxscsi.LinuxSCSI, "get_scsi_wwn", lambda *_arguments: "36000")
    monkeypatch.setattr(fibre_channel.FibreChannelConnector, "check_valid_device", lambda *_arguments, **_more: True)
    data = {"target_wwn": "1234567890123456", "target_lun": 1, "target_discovered": True}
    assert connector.connect(volume("fibre_channel", data)).startswith("/dev/")


def test_nvme_over_tcp_ends_in_a_device_of_the_host(host, monkeypatch):
    monkeypatch.setattr(nvmeof.NVMeOFConnector, "_connect_target", lambda _self, target: f"/dev/of-{target.nqn}")
    monkeypatch.setattr(nvmeof.utils, "get_host_nqn", lambda *_arguments: "nqn.host")
    data = {"target_nqn": "nqn.1", "vol_uuid": UUID, "portals": [["192.0.2.7", "4420", "tcp"]], "ns_id": 1}
    assert connector.connect(volume("nvmeof", data)) == "/dev/of-nqn.1"


def test_rbd_ends_in_a_device_and_not_in_a_handle_of_a_library(host, monkeypatch):
    monkeypatch.setattr(rbd.RBDConnector, "create_non_openstack_config", lambda *_arguments: None)
    data = {"name": "volumes/volume-1", "hosts": ["192.0.2.7"], "ports": ["6789"], "auth_username": "cinder"}
    assert connector.connect(volume("rbd", data)) in {"/dev/rbd0", "/dev/rbd/volumes/volume-1"}
    assert any(line.startswith("rbd map volume-1") for line in host)


def test_nfs_ends_in_a_file_below_what_is_mounted_there(host, monkeypatch, tmp_path):
    monkeypatch.setattr(
        remotefs.RemoteFsClient, "_execute", lambda _self, *words, **_more: host.append(" ".join(words))
    )
    data = {
        "export": "192.0.2.7:/volumes",
        "name": "volume-1",
        "options": None,
        "mount_point_base": "/var/lib/cinder/mnt",
    }
    path = Path(connector.connect(volume("nfs", data)))
    assert path.name == "volume-1"
    assert path.parent.parent == tmp_path, "where Cinder has it mounted is no place of a compute host's"
    assert any(line.startswith("mount -t nfs") and line.endswith(f"192.0.2.7:/volumes {path.parent}") for line in host)
    connector.grow(volume("nfs", data))
    connector.disconnect(volume("nfs", data))


def test_what_a_host_cannot_reach_is_said_with_the_protocol(monkeypatch):
    def missing(_self, *_words, **_more):
        raise processutils.ProcessExecutionError(cmd="iscsiadm", exit_code=127, stderr="not found")

    monkeypatch.setattr(executor.Executor, "_execute", missing)
    with pytest.raises(connector.Unreachable, match="iscsi"):
        connector.connect(volume("iscsi", ISCSI))
    with pytest.raises(connector.Unreachable, match="carrier-pigeon"):
        connector.connect(volume("carrier-pigeon", {}))
