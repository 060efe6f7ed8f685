# SPDX-License-Identifier: Apache-2.0
"""Volumes in real containers, on real loop devices over files."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from private_engine import wait_for
from server_lab import docker_archive, lab_host
from volume_lab import VolumeLab

from dockstack.compute.flows import lifecycle, volumes
from dockstack.compute.model import DiskRates, Volume
from dockstack.compute.network import ovs
from dockstack.compute.privileged import decryption, loops, server_devices
from dockstack.compute.privileged import volumes as privileged
from dockstack.compute.undo import Undo
from dockstack.compute.volumes import connector, encryption
from dockstack.errors import DockstackError

MIB = 1 << 20
READS = ["dd", "if=/dev/vdb", "of=/dev/null", "bs=4096", "count=1"]


class Killed(BaseException):
    """kill -9: no undo runs."""


@pytest.fixture
def attachments():
    """What Nova says that servers have."""
    return {}


@pytest.fixture
def host(private_engine, engine, tmp_path, monkeypatch, attachments):
    for name in ("plug", "unplug", "unplug_device"):
        monkeypatch.setattr(ovs, name, lambda *_arguments: None)
    directory = tmp_path / "held"
    monkeypatch.setattr(privileged, "VOLUMES_DIRECTORY", directory)
    monkeypatch.setattr(volumes, "VOLUMES_DIRECTORY", directory)
    monkeypatch.setattr(decryption, "DECRYPTED_DIRECTORY", tmp_path / "decrypted")
    monkeypatch.setattr(connector, "connect", lambda volume: volume.connection["device_path"])
    monkeypatch.setattr(connector, "disconnect", lambda _volume: None)
    monkeypatch.setattr(connector, "tag", lambda _name: f"{os.getpid():016x}")
    host = lab_host(private_engine, private_engine.directory / "state", lambda _image: iter([docker_archive()]))
    object.__setattr__(host, "attachments", lambda server_uuid: tuple(attachments.get(server_uuid, ())))
    yield host
    for loop in own_loops():
        loops.revoke(loop)


def own_loops():
    return [loop for loop in loops.find_all("dockstack:") if loop.label.endswith(f":{os.getpid():016x}")]


@pytest.fixture
def server(lab, host):
    server = lab.boot()
    yield server
    lifecycle.destroy(host, server)
    assert not own_loops()


@pytest.fixture
def make_volume(tmp_path):
    def make(device="vdb", size=8 * MIB, **more):
        identity = str(uuid.uuid4())
        path = tmp_path / f"volume-{identity}"
        with path.open("wb") as file:
            file.truncate(size)
        path.chmod(0o600)
        return Volume(identity, device, "local", {"device_path": str(path)}, **more)

    return make


def path_of(volume) -> Path:
    return Path(volume.connection["device_path"])


def can_read(lab, server) -> bool:
    return lab.engine.execute(server.container_name, READS).exit_code == 0


def rule_of(lab, server) -> str:
    group = server_devices.device_rules.find_groups(lab.state(server).pid, lab.state(server).id)["devices"]
    return (group / "devices.list").read_text()


def test_attached_while_it_runs_and_detached(lab, host, server, make_volume) -> None:
    volume = make_volume()
    volumes.attach(host, server, volume)
    volumes.attach(host, server, volume)  # again
    lab.run(server, "sh", "-c", "echo written > /dev/vdb")
    assert lab.run(server, "ls", "-l", f"/dev/disk/by-id/virtio-{volume.id[:20]}").strip().endswith("../../vdb")
    assert lab.run(server, "cat", "/sys/block/vdb/serial").strip() == volume.id[:20]
    assert lab.run(server, "cat", "/sys/class/block/vdb/size").strip() == str(8 * MIB // 512)
    assert lab.run(server, "ls", "/sys/block").split() == ["vdb"]
    assert lab.run(server, "cat", "/proc/partitions").split()[-2:] == ["8192", "vdb"]
    assert lab.run(server, "stat", "-c", "%a %u %g", "/dev/vdb").split() == ["660", "0", "6"]
    (loop,) = own_loops()
    number = f"{os.major(loop.device)}:{os.minor(loop.device)}"
    assert f"b {number} rw\n" in rule_of(lab, server)

    volumes.detach(host, server, volume)
    assert path_of(volume).read_bytes().startswith(b"written\n")
    assert not own_loops()
    assert number not in rule_of(lab, server), "a stale rule would open whatever gets that number next"
    assert "vdb" not in lab.run(server, "ls", "/dev", "/dev/disk/by-id", "/sys/block")
    assert not privileged.list_held()
    volumes.detach(host, server, volume)  # again


def test_a_block_device_of_the_hosts_is_given_as_it_is_and_left_when_it_goes(lab, host, server, make_volume) -> None:
    """What iSCSI and the like end in: another one's device, which os-brick takes off the host when it is let go."""
    file = make_volume()
    foreign = loops.make(str(path_of(file)), f"foreign:{os.getpid()}")
    node = Path(f"/dev/loop{foreign.number}")
    volume = Volume(str(uuid.uuid4()), "vdb", "iscsi", {"device_path": str(node)})
    try:
        volumes.attach(host, server, volume)
        assert not own_loops(), "no device over a device"
        lab.run(server, "sh", "-c", "echo written > /dev/vdb && sync")
        assert lab.run(server, "cat", "/sys/class/block/vdb/size").strip() == str(8 * MIB // 512)
        object.__setattr__(host, "attachments", lambda _server_uuid: (volume,))
        lifecycle.reboot(host, server, hard=True)
        assert lab.run(server, "head", "-c", "7", "/dev/vdb") == "written"
        volumes.detach(host, server, volume)
        assert not can_read(lab, server)
        assert not privileged.list_held()
        assert loops.find_all("foreign:"), "it is not ours to take away"
        assert path_of(file).read_bytes().startswith(b"written\n")
    finally:
        loops.revoke(foreign)


def test_only_that_device_is_open_to_it(lab, host, server, make_volume, tmp_path) -> None:
    other = make_volume()
    loop = loops.make(str(path_of(other)), f"dockstack:{other.id}:{os.getpid():016x}")
    volumes.attach(host, server, make_volume())
    number = f"b {os.major(loop.device)} {os.minor(loop.device)}".split()
    root = f"/proc/{lab.state(server).pid}/root/dev/other"
    subprocess.run(["mknod", root, *number], check=True)
    result = lab.engine.execute(server.container_name, ["dd", "if=/dev/other", "of=/dev/null", "count=1"])
    assert result.exit_code, "a node of another device can be opened"
    loops.revoke(loop)


def test_there_again_after_a_restart_with_what_was_written(lab, host, server, make_volume, attachments) -> None:
    volume = make_volume(rates=DiskRates(write_bytes=5 * MIB))
    volumes.attach(host, server, volume)
    lab.run(server, "sh", "-c", "echo kept > /dev/vdb")
    attachments[server.uuid] = [volume]
    lifecycle.reboot(host, server, hard=True)
    assert lab.run(server, "head", "-c", "5", "/dev/vdb") == "kept\n"
    assert lab.run(server, "head", "-c", "5", f"/dev/disk/by-id/virtio-{volume.id[:20]}") == "kept\n"
    assert lab.run(server, "cat", "/sys/block/vdb/dev").strip() in lab.run(server, "ls", "/sys/dev/block")
    assert lab.run(server, "cat", "/proc/partitions").split()[-1] == "vdb"
    groups = server_devices.device_rules.find_groups(lab.state(server).pid, lab.state(server).id)
    assert str(5 * MIB) in (groups["blkio"] / "blkio.throttle.write_bps_device").read_text()
    assert volumes.read_usage(host, server, "vdb").read_requests > 0

    volumes.detach(host, server, volume)
    attachments.clear()
    lifecycle.reboot(host, server, hard=True)
    assert "vdb" not in lab.run(server, "ls", "/dev")
    assert not can_read(lab, server)


def test_kept_while_its_limits_change(lab, host, server, make_volume) -> None:
    volumes.attach(host, server, make_volume())
    lab.engine.update(lab.state(server).id, {"Memory": 96 * MIB, "MemorySwap": 96 * MIB})
    lifecycle.pause(host, server)
    lifecycle.unpause(host, server)
    assert can_read(lab, server)


def test_programs_of_a_distribution_find_it(lab, host, server, make_volume, attachments) -> None:
    """What lsblk makes of the view: the machine's own, told to look at the server's files."""
    volume = make_volume()
    attachments[server.uuid] = [volume]
    volumes.attach(host, server, volume)
    for restart in (False, True):
        if restart:
            lifecycle.reboot(host, server, hard=True)
        root = f"/proc/{lab.state(server).pid}/root"
        asked = ["lsblk", "--sysroot", root, "--bytes", "--nodeps", "--noheadings", "--output", "NAME,SIZE,TYPE,RO"]
        found = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        assert found.split() == ["vdb", str(8 * MIB), "disk", "0"]


def test_one_that_cannot_be_had_keeps_the_server_from_starting(lab, host, server, make_volume, attachments) -> None:
    attachments[server.uuid] = [volume := make_volume()]
    volumes.attach(host, server, volume)
    lifecycle.stop(host, server, 0)
    volumes.release(host, server.uuid)
    path_of(volume).unlink()
    with pytest.raises(DockstackError, match=volume.id):
        lifecycle.start(host, server)
    assert not lab.state(server).pid


def test_attached_and_detached_while_it_is_stopped_or_paused(lab, host, server, make_volume, attachments) -> None:
    lifecycle.stop(host, server, 0)
    volume = make_volume()
    volumes.attach(host, server, volume)
    attachments[server.uuid] = [volume]
    lifecycle.start(host, server)
    assert can_read(lab, server)
    lifecycle.pause(host, server)
    volumes.detach(host, server, volume)
    second = make_volume(device="vdc")
    volumes.attach(host, server, second)
    lifecycle.unpause(host, server)
    assert lab.run(server, "ls", "/sys/block").split() == ["vdc"]
    assert not can_read(lab, server)


def test_larger_at_once(lab, host, server, make_volume) -> None:
    volume = make_volume()
    volumes.attach(host, server, volume)
    os.truncate(path_of(volume), 16 * MIB)
    volumes.extend(host, server, volume, 16 * MIB)
    assert lab.run(server, "cat", "/sys/block/vdb/size").strip() == str(16 * MIB // 512)
    assert "16384 vdb" in lab.run(server, "cat", "/proc/partitions")
    lab.run(server, "sh", "-c", "echo beyond | dd of=/dev/vdb bs=1024 seek=12000 conv=notrunc")
    with pytest.raises(DockstackError, match="was to have"):
        volumes.extend(host, server, volume, 32 * MIB)


def test_shared_by_two_servers(lab, host, server, make_volume) -> None:
    other, volume = lab.boot(), make_volume()
    volumes.attach(host, server, volume)
    volumes.attach(host, other, volume)
    assert len(own_loops()) == 1
    lab.run(server, "sh", "-c", "echo shared > /dev/vdb")
    assert lab.run(other, "head", "-c", "7", "/dev/vdb") == "shared\n"
    volumes.detach(host, server, volume)
    assert not can_read(lab, server)
    assert lab.run(other, "head", "-c", "7", "/dev/vdb") == "shared\n"
    lifecycle.destroy(host, other)
    assert not own_loops()


def test_taken_from_a_process_that_holds_it(lab, host, server, make_volume) -> None:
    volume = make_volume()
    volumes.attach(host, server, volume)
    script = "exec 3<>/dev/vdb; echo first >&3; until [ -e /gone ]; do sleep 0.1; done; "
    script += "yes | dd bs=1024 count=4096 >&3 2>/failed; echo $? > /code; exec sleep 1000"
    lab.engine.execute(server.container_name, ["sh", "-c", f"sh -c '{script}' &"])
    wait_for(lambda: server_devices.is_used(*whose(lab, server), volume.id), "the holder")
    volumes.detach(host, server, volume)
    path_of(volume).write_bytes(b"the next owner's" + bytes(MIB))
    lab.run(server, "touch", "/gone")
    lab.wait_for_file(server, "/code", "1\n")
    assert not path_of(volume).read_bytes()[512:].strip(b"\0")
    volumes.attach(host, server, volume)  # beside the device that is still held
    assert can_read(lab, server)


def whose(lab, server) -> tuple[int, str, str]:
    return lab.state(server).pid, lab.state(server).id, server.uuid


@pytest.fixture
def mounting(lab, host, tmp_path):
    """Servers that mount their volumes by a broker, which reads the records of this host."""
    found = VolumeLab(lab, tmp_path)
    found.records = tmp_path / "held"
    try:
        found.start_both()
        yield found
    finally:
        lab.destroy()
        found.clean()


def test_mounted_in_the_server_it_grows_and_is_taken_away_whole(host, mounting, make_volume) -> None:
    server, volume = mounting.boot(), make_volume(size=16 * MIB)
    volumes.attach(host, server, volume)
    mounting.must(server, "mkdir /mnt && /usr/own/mkfs.ext4 -q -F /dev/vdb && /usr/own/mount /dev/vdb /mnt")
    mounting.must(server, "echo kept > /mnt/file")
    os.truncate(path_of(volume), 24 * MIB)
    volumes.extend(host, server, volume, 24 * MIB)
    assert mounting.must(server, "cat /sys/block/vdb/size").split() == [str(24 * MIB // 512)]
    with pytest.raises(DockstackError, match="The server uses volume"):
        volumes.swap(host, server, volume, make_volume(size=32 * MIB))
    volumes.detach(host, server, volume)
    assert " /mnt " not in mounting.must(server, "cat /proc/mounts")
    wait_for(lambda: not loops.find_all(f"dockmount:{volume.id}"), "the device of the mount to be gone")
    assert not own_loops()
    told = subprocess.run(["debugfs", "-R", "cat /file", path_of(volume)], check=True, capture_output=True, text=True)
    assert told.stdout == "kept\n"


def test_for_reading_only(lab, host, server, make_volume) -> None:
    volumes.attach(host, server, make_volume(read_only=True))
    assert can_read(lab, server)
    assert lab.engine.execute(server.container_name, ["sh", "-c", "echo x > /dev/vdb"]).exit_code


def test_swapped_with_its_content(lab, host, server, make_volume) -> None:
    old, new = make_volume(), make_volume(size=16 * MIB)
    volumes.attach(host, server, old)
    lab.run(server, "sh", "-c", "echo content > /dev/vdb")
    volumes.swap(host, server, old, new)
    assert lab.run(server, "head", "-c", "8", "/dev/vdb") == "content\n"
    assert lab.run(server, "cat", "/sys/block/vdb/serial").strip() == new.id[:20]
    assert [volume for _, volume, _ in privileged.list_held()] == [new.id]
    with pytest.raises(DockstackError, match="8388608"):
        volumes.swap(host, server, new, make_volume())  # which is smaller
    assert lab.run(server, "cat", "/sys/block/vdb/serial").strip() == new.id[:20]
    lab.engine.execute(server.container_name, ["sh", "-c", "sleep 1000 < /dev/vdb &"])
    wait_for(lambda: server_devices.is_used(*whose(lab, server), new.id), "the holder")
    with pytest.raises(DockstackError, match="uses volume"):
        volumes.swap(host, server, new, make_volume(size=16 * MIB))


def test_its_dev_may_hold_anything(lab, host, server, make_volume) -> None:
    lab.run(server, "sh", "-c", "ln -s /etc/shadow /dev/vdb; ln -s /etc /dev/.vdb.new; mkdir -p /etc; ls /dev")
    volumes.attach(host, server, make_volume())
    assert can_read(lab, server)
    assert "Uid" in lab.run(server, "stat", "/dev/vdb")
    lab.run(server, "sh", "-c", "exec 2>&1; ls /etc")


@pytest.mark.parametrize("death", [("hold", False), ("hold", True), ("let_go", False), ("let_go", True)])
def test_what_a_kill_leaves_is_swept(request, host, make_volume, monkeypatch, death) -> None:
    """The process dies at a step of root's; Nova then says that the server has no volume."""
    lab, server = request.getfixturevalue("lab"), request.getfixturevalue("server")
    (step, after), volume = death, make_volume()
    real = getattr(privileged, step)

    def die(*arguments):
        if after:
            real(*arguments)
        raise Killed

    monkeypatch.setattr(Undo, "run", lambda _self: None)
    with monkeypatch.context() as killing:
        killing.setattr(privileged, step, die)
        with suppress(Killed):
            volumes.attach(host, server, volume)
            volumes.detach(host, server, volume)
    volumes.sweep(host, lambda _server_uuid: False)
    assert not own_loops()
    assert not privileged.list_held()
    assert not can_read(lab, server)


def test_no_record_vanishes_while_they_are_listed(host) -> None:
    with ThreadPoolExecutor(1) as beside:
        with privileged._records_locked():
            listed = beside.submit(privileged.list_held)
            with pytest.raises(TimeoutError):
                listed.result(0.2)
        assert listed.result(10) == []


def test_a_kill_between_record_and_device_leaves_no_record_of_a_stranger(host, make_volume, monkeypatch) -> None:
    server, volume = str(uuid.uuid4()), make_volume()
    seen, tag = {"device": "vdb", "read_only": False}, connector.tag(host.name)
    privileged.hold(server, volume.id, str(path_of(volume)), tag, seen)
    with monkeypatch.context() as killing:
        killing.setattr(loops, "revoke", lambda _loop: (_ for _ in ()).throw(Killed))
        with suppress(Killed):
            privileged.let_go(server, volume.id, tag)
    assert not privileged.list_held()
    assert privileged.list_strays(tag) == [volume.id]
    privileged.drop_stray(volume.id, tag)
    privileged.drop_stray(volume.id, tag)  # again
    assert not own_loops()


def test_one_that_somebody_waits_for_keeps_no_sweep_from_the_others(host, make_volume, caplog) -> None:
    """Its storage answers nobody, and a thread of this nova-compute, or of one that was killed, has it to itself."""
    stuck, other = sorted((make_volume(), make_volume()), key=lambda volume: volume.id)
    for volume in (stuck, other):
        loops.make(str(path_of(volume)), f"dockstack:{volume.id}:{os.getpid():016x}")
    with privileged._alone(stuck.id):
        sweep = threading.Thread(target=volumes.sweep, args=(host, lambda _server_uuid: False), daemon=True)
        sweep.start()
        sweep.join(10)
        assert not sweep.is_alive()
        assert [loop.label.split(":")[1] for loop in own_loops()] == [stuck.id]
        assert stuck.id in caplog.text
    volumes.sweep(host, lambda _server_uuid: False)
    assert not own_loops()


def test_a_share_that_answers_nobody_is_asked_for_its_own_volumes_alone(
    host, make_volume, monkeypatch, tmp_path
) -> None:
    """A share of a file system in user space; the name of a file says nothing of a volume that was migrated."""
    share, tag = tmp_path / "mnt" / "share", connector.tag(host.name)
    share.mkdir(parents=True)
    monkeypatch.setattr(privileged.mounts, "list_in_user_space", lambda: [str(share)], raising=False)
    server, away, near = str(uuid.uuid4()), make_volume(), make_volume()
    path = path_of(away).rename(share / "volume-of-another-name")
    seen = {"device": "vdb", "read_only": False}
    privileged.hold(server, away.id, str(path), tag, seen)
    (far,) = own_loops()
    asked, read = [], loops._read
    monkeypatch.setattr(loops, "_read", lambda number: asked.append(number) or read(number))
    privileged.hold(server, near.id, str(path_of(near)), tag, seen | {"device": "vdc"})
    assert not privileged.is_mounted(near.id)
    assert privileged.list_strays(tag) == []
    privileged.let_go(server, near.id, tag)
    assert asked
    assert far.number not in asked
    assert privileged.find_own(away.id) == [far.device]
    privileged.hold(server, away.id, str(path), tag, seen)
    assert [loop.number for loop in own_loops()] == [far.number], "it is found again"
    privileged.let_go(server, away.id, tag)
    assert not own_loops()


def test_a_device_that_a_server_has_by_now_is_no_stray(lab, host, server, make_volume) -> None:
    volumes.attach(host, server, volume := make_volume())
    privileged.drop_stray(volume.id, f"{os.getpid():016x}")
    assert can_read(lab, server)


def test_what_is_lost_is_said_once_and_then_it_is_let_go(host, make_volume, monkeypatch) -> None:
    server, volume = str(uuid.uuid4()), make_volume()
    seen, tag = {"device": "vdb", "read_only": False}, connector.tag(host.name)
    privileged.hold(server, volume.id, str(path_of(volume)), tag, seen)
    with monkeypatch.context() as losing:
        losing.setattr(loops.os, "fsync", lambda _device: (_ for _ in ()).throw(OSError(errno.EIO, "lost")))
        with pytest.raises(OSError, match="lost"):
            privileged.let_go(server, volume.id, tag)
    assert [held for _, held, _ in privileged.list_held()] == [volume.id]
    monkeypatch.setattr(loops, "_PATIENCE", 0.1)
    (loop,) = own_loops()
    with loops.locked(loop):  # as a mount broker that does not end
        assert privileged.let_go(server, volume.id, tag)
    assert not own_loops()


def test_one_device_of_several_is_kept_and_all_are_denied(lab, host, server, make_volume) -> None:
    volume = make_volume()
    first = loops.make(str(path_of(volume)), f"dockstack:{volume.id}:{os.getpid():016x}")
    about = path_of(volume).stat()
    assert loops.find_all(first.label) == [first]
    assert first.file == (about.st_dev, about.st_ino)
    volumes.attach(host, server, volume)
    second = loops.make(str(path_of(volume)), first.label)
    record = privileged.read(server.uuid, volume.id) | {"minor": os.minor(second.device)}
    privileged._write(server.uuid, volume.id, record)
    volumes.attach(host, server, volume)
    numbers = {f"{os.major(loop.device)}:{os.minor(loop.device)}" for loop in (first, second)}
    assert f"{record['major']}:{record['minor']}" == lab.run(server, "cat", "/sys/block/vdb/dev").strip()
    assert all(number in rule_of(lab, server) for number in numbers)
    volumes.detach(host, server, volume)
    assert not any(number in rule_of(lab, server) for number in numbers)
    assert not own_loops()


def test_an_encrypted_one_is_refused_before_anything_where_nothing_decrypts(
    host, server, make_volume, monkeypatch
) -> None:
    volume = make_volume()
    volume.connection["encrypted"] = True
    monkeypatch.setattr(encryption, "find_obstacle", lambda: "its kernel has no FUSE")
    before = path_of(volume).stat()
    with pytest.raises(DockstackError, match="this host decrypts nothing: its kernel has no FUSE"):
        volumes.attach(host, server, volume)
    assert path_of(volume).stat() == before
    assert not own_loops()
    assert not privileged.list_held()


def test_not_swapped_while_a_broker_has_mounted_it(lab, host, server, make_volume) -> None:
    old, new = make_volume(), make_volume()
    volumes.attach(host, server, old)
    mounted = loops.make(str(path_of(old)), f"dockmount:{old.id}:{os.getpid():016x}")
    try:
        with pytest.raises(DockstackError, match="The server uses volume"):
            volumes.swap(host, server, old, new)
        lifecycle.stop(host, server, 0)
        with pytest.raises(DockstackError, match="is mounted"):
            volumes.swap(host, server, old, new)
    finally:
        loops.revoke(mounted)


def test_a_device_without_a_record_is_swept_and_another_hosts_stays(lab, host, server, make_volume) -> None:
    stray, others = make_volume(), make_volume()
    volumes.attach(host, server, kept := make_volume())
    loops.make(str(path_of(stray)), f"dockstack:{stray.id}:{os.getpid():016x}")
    foreign = loops.make(str(path_of(others)), f"dockstack:{others.id}:{'f' * 16}")
    try:
        assert privileged.list_strays(f"{os.getpid():016x}") == [stray.id]
        privileged.drop_stray(stray.id, f"{os.getpid():016x}")
        assert [loop.label.split(":")[1] for loop in own_loops()] == [kept.id]
        assert any(loop.label == foreign.label for loop in loops.find_all("dockstack:"))
    finally:
        loops.revoke(foreign)
