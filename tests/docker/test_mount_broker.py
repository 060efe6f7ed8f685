# SPDX-License-Identifier: Apache-2.0
"""A server without any right to mount mounts its volumes, and nothing else."""

from __future__ import annotations

import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from private_engine import wait_for
from volume_lab import VolumeLab

from dockstack.mounts import loops

OWN = "/usr/own"
MAKE = f"{OWN}/mkfs.ext4 -q -F /dev/vdb"


@pytest.fixture
def volumes(lab, tmp_path):
    found = VolumeLab(lab, tmp_path)
    try:
        found.start_both()
        yield found
    finally:
        lab.destroy()
        found.clean()


@pytest.fixture
def ready(volumes):
    """A server with a volume that it has made a file system on."""
    server, volume = volumes.boot(), volumes.volume()
    volumes.attach(server, volume)
    volumes.must(server, f"mkdir -p /mnt && {MAKE}")
    return server, volume


def test_a_volume_is_mounted_written_and_unmounted(volumes, ready) -> None:
    server, volume = ready
    volumes.must(server, f"{OWN}/mount /dev/vdb /mnt && echo kept > /mnt/file")
    table = volumes.must(server, "cat /proc/mounts")
    (line,) = [line for line in table.splitlines() if " /mnt " in line]
    assert line.startswith("/dev/vdb /mnt ext4 rw,nosuid,nodev,")
    assert "/dev/vdb" not in Path("/proc/mounts").read_text()
    volumes.must(server, f"{OWN}/umount /mnt")
    assert volumes.must(server, "ls -A /mnt") == ""
    volumes.must(
        server,
        "busybox mount -t ext4 -o ro,noexec /dev/disk/by-id/virtio-* /mnt && cat /mnt/file && busybox umount /mnt",
    )
    assert volumes.mounted(volume) is None
    assert volume.limit == 0


def test_what_is_mounted_cannot_be_written_to_from_below(volumes, ready) -> None:
    server, volume = ready
    volumes.must(server, f"exec 3<>/dev/vdb; {OWN}/mount /dev/vdb /mnt; echo kept > /mnt/file")
    before = volume.file.read_bytes()[4096:8192]
    status, _ = volumes.run(server, "busybox dd if=/dev/urandom of=/dev/vdb bs=4096 seek=1 count=1 conv=fsync,notrunc")
    assert status
    assert volume.file.read_bytes()[4096:8192] == before
    volumes.must(server, f"{OWN}/umount /mnt && {MAKE}")


def test_a_busy_one_stays(volumes, ready) -> None:
    server, volume = ready
    volumes.must(server, f"{OWN}/mount /dev/vdb /mnt")
    status, said = volumes.run(server, "cd /mnt && busybox umount /mnt")
    assert status
    assert "busy" in said
    status, said = volumes.run(server, "busybox mount -t ext4 /dev/vdb /mnt")
    assert status
    assert "busy" in said
    assert volumes.mounted(volume) is not None


def test_it_is_mounted_again_after_a_restart(volumes, ready) -> None:
    server, volume = ready
    volumes.must(server, f"{OWN}/mount /dev/vdb /mnt && echo kept > /mnt/file")
    volumes.lab.engine.stop(server.container_name, 0)
    wait_for(lambda: volume.limit == 0, "the volume's size")
    volumes.lab.engine.start(server.container_name)
    volumes.give_node(server, volume)
    assert volumes.must(server, f"{OWN}/mount /dev/vdb /mnt && cat /mnt/file") == "kept\n"


def test_a_volumes_rate_bounds_what_is_mounted_too(volumes, ready) -> None:
    server, volume = ready
    for rate, bounds in ((4 << 20, [str(4 << 20)]), (0, [])):
        volumes.bound_writing(server, volume, rate)
        volumes.must(server, f"{OWN}/mount /dev/vdb /mnt")
        second = Path("/sys/block", volumes.mounted(volume) or "", "dev").read_text().strip()
        assert [line.split()[1] for line in volumes.bounds(server) if line.split()[0] == second] == bounds
        volumes.must(server, f"{OWN}/umount /mnt")


def test_servers_outlive_a_stop_of_both_as_down_does_it(volumes, ready) -> None:
    """Its calls wait for the next broker, programs get into it meanwhile, and the kept holder ends with the next."""
    server, volume = ready
    volumes.kill("broker")
    volumes.stop("holder")
    answers: list[tuple[int, str]] = []
    waiting = threading.Thread(target=lambda: answers.append(volumes.run(server, f"{OWN}/mount /dev/vdb /mnt")))
    waiting.start()
    wait_for(lambda: "mount /dev/vdb" in volumes.must(server, "busybox ps"), "the call")
    assert volumes.must(server, "echo in") == "in\n"
    assert len(volumes.holders()) == 1
    volumes.start_both()
    waiting.join(60)
    assert [status for status, _ in answers] == [0]
    assert volumes.mounted(volume) is not None
    wait_for(lambda: len(volumes.holders()) == 1, "the end of the former holder")
    volumes.must(server, f"{OWN}/umount /mnt")


REFUSED = (
    "-t tmpfs none /mnt",
    "-t proc none /mnt",
    "-o bind /bin /mnt",
    "-t ext4 -o remount,ro /dev/vdb /mnt",
    "-t ext4 -o journal_path=/dev/vdb /dev/vdb /mnt",
    "-t xfs /dev/vdb /mnt",
    "-t ext4 /dev/vdb /proc/sys",
    "-t ext4 /dev/vdb /sys/fs",
    "-t ext4 /dev/vdb /dev/shm",
    "-t ext4 /dev/vdb /link",
    "-t ext4 /dev/vdb /",
    "-t ext4 /dev/vdb /bin/busybox",
    "-t ext4 /proc/1/root/dev/vdb /mnt",
    "-t ext4 /dev/vdb /proc/self/cwd",
    "-t ext4 /dev/null /mnt",
)


def test_nothing_else_is(volumes, ready) -> None:
    server, volume = ready
    volumes.must(server, "busybox ln -s /proc/sys /link")
    tries = "; ".join(f"busybox mount {what} 2>/dev/null && echo {what}" for what in REFUSED)
    assert volumes.must(server, f"{tries}; busybox umount /proc 2>/dev/null && echo umount; :") == ""
    assert volumes.mounted(volume) is None
    assert volume.limit == 0


def test_users_and_neighbours_do_not(volumes, ready) -> None:
    server, volume = ready
    mount = ["/bin/busybox", "mount", "-t", "ext4", "/dev/vdb", "/mnt"]
    assert volumes.lab.engine.execute(server.container_name, mount, user="1000").exit_code
    assert f"server {server.uuid}: EPERM: not root" in volumes.said()
    neighbour = volumes.boot()
    volumes.give_node(neighbour, volume)
    status, _ = volumes.run(neighbour, "busybox mkdir -p /mnt && busybox mount -t ext4 /dev/vdb /mnt")
    assert status
    assert f"server {neighbour.uuid}: EPERM: b'/dev/vdb' is no volume of this server" in volumes.said()


def test_a_records_number_alone_opens_nothing(volumes, ready) -> None:
    server, volume = ready
    gone = replace(volume, uuid="11111111-2222-4333-8444-555555555555")  # its number is another volume's now
    (volumes.records / server.uuid / f"{volume.uuid}.json").unlink()
    volumes.attach(server, gone, "vdc")
    status, _ = volumes.run(server, "busybox mount -t ext4 /dev/vdc /mnt")
    assert status
    assert "EPERM: vdc is no volume of this server any more" in volumes.said()
    assert volumes.mounted(volume) is None
    assert volume.limit == 0


def test_other_hosts_of_the_machine_cannot_write_from_below_either(volumes, ready) -> None:
    server, volume = ready
    before = volumes.second_host(volume)
    volumes.must(server, f"{OWN}/mount /dev/vdb /mnt && echo kept > /mnt/file")
    assert (volume.limit, before.limit) == (loops.SHORT, loops.SHORT)
    after = volumes.second_host(volume)  # it attaches what is mounted already
    wait_for(lambda: after.limit == loops.SHORT, "the end of the new device")
    volumes.must(server, f"{OWN}/umount /mnt")
    wait_for(lambda: {volume.limit, before.limit, after.limit} == {0}, "the sizes")


def test_a_damaged_file_system_never_meets_the_kernel(volumes, ready) -> None:
    server, volume = ready
    with volume.file.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(os.urandom(40 * 4096))
    status, said = volumes.run(server, "busybox mount -t ext4 /dev/vdb /mnt")
    assert status
    assert "cleaning" in said
    assert volume.limit == 0


def make_vfat(volume, *, dirty: bool = False) -> None:
    """Make one as a server does with mkfs.vfat; ``dirty``: as a host that ended leaves it."""
    subprocess.run(["mkfs.fat", volume.file], check=True, stdout=subprocess.DEVNULL)
    with volume.file.open("r+b") as file:
        file.seek(0x25)
        file.write(bytes([dirty]))


def test_vfat_is_checked_and_mounted_where_the_kernel_knows_it(volumes, ready) -> None:
    server, volume = ready
    for dirty in (False, True):
        make_vfat(volume, dirty=dirty)
        status, said = volumes.run(server, "busybox mount -t vfat -o umask=022 /dev/vdb /mnt && echo kept > /mnt/file")
        if "\tvfat\n" in Path("/proc/filesystems").read_text():
            assert status == 0, said
            assert volumes.must(server, "cat /mnt/file && busybox umount /mnt") == "kept\n"
        else:
            assert f"server {server.uuid}: ENODEV: [Errno 19] No such device" in volumes.said()
        assert volume.limit == 0
        assert subprocess.run(["fsck.fat", "-n", volume.file], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_a_damaged_vfat_never_meets_the_kernel(volumes, ready) -> None:
    server, volume = ready
    make_vfat(volume)
    with volume.file.open("r+b") as file:
        file.seek(0x0E)  # how many sectors come before the first table
        table = int.from_bytes(file.read(2), "little") * 512
        file.seek(table + 4)
        file.write(os.urandom(400))
    status, said = volumes.run(server, "busybox mount -t vfat /dev/vdb /mnt")
    assert status
    assert "cleaning" in said
    assert volume.limit == 0


def test_one_that_was_in_use_when_its_host_ended_is_repaired(volumes, ready) -> None:
    server, volume = ready
    volumes.must(server, f"{OWN}/mount /dev/vdb /mnt && echo kept > /mnt/file && busybox sync")
    left = volumes.volume()
    left.file.write_bytes(volume.file.read_bytes())
    volumes.attach(server, left, "vdc")
    assert volumes.must(server, f"busybox mkdir /left && {OWN}/mount /dev/vdc /left && cat /left/file") == "kept\n"


def test_a_journal_is_never_replayed_by_the_kernel(volumes, ready, tmp_path) -> None:
    server, volume = ready
    told = debugfs(volume.file, "imap <2>")
    block = told.split("located at block ")[1].split(",")[0]
    hostile = tmp_path / "block"
    hostile.write_bytes(os.urandom(1024))
    debugfs(volume.file, "journal_open", f"journal_write -b {block} {hostile}", "journal_close")
    assert "needs_recovery" in debugfs(volume.file, "features")
    for options in ("rw", "ro"):
        status, said = volumes.run(server, f"busybox mount -t ext4 -o {options} /dev/vdb /mnt")
        assert status
        assert "cleaning" in said
    assert volumes.said().count("EUCLEAN: a damaged file system") == 2  # e2fsck has found it, no kernel
    assert volume.limit == 0


def test_nor_on_a_device_for_reading_only(volumes, ready) -> None:
    server, volume = ready
    debugfs(volume.file, "feature needs_recovery")
    volumes.attach(server, volume, "vdc", read_only=True)
    assert volumes.run(server, "busybox mount -t ext4 -o ro /dev/vdc /mnt")[0]
    assert "EROFS: a file system that was not unmounted" in volumes.said()


def debugfs(file: Path, *commands: str) -> str:
    """Change a file system as its owner may, below the kernel; return what was said."""
    told = subprocess.run(
        ["debugfs", "-w", "-f", "-", file], input="\n".join(commands), check=True, capture_output=True, text=True
    )
    return told.stdout


def test_a_read_only_volume_is_mounted_for_reading(volumes, ready) -> None:
    server, volume = ready
    volumes.must(server, f"{OWN}/mount /dev/vdb /mnt && echo kept > /mnt/file && {OWN}/umount /mnt")
    volumes.attach(server, volume, "vdc", read_only=True)
    assert volumes.run(server, "busybox mount -t ext4 -o rw /dev/vdc /mnt && echo more > /mnt/file")[0]
    volumes.run(server, "busybox umount /mnt")
    assert volumes.must(server, "busybox mount -t ext4 -o ro /dev/vdc /mnt && cat /mnt/file") == "kept\n"


def test_links_that_change_lead_nowhere(volumes, ready) -> None:
    server, _ = ready
    volumes.must(
        server,
        "busybox mkdir -p /a /b; (while :; do busybox ln -sfn /proc /t; busybox ln -sfn /a /t; done) & "
        "for i in $(seq 10); do busybox mount -t ext4 /dev/vdb /t && busybox umount /a; done; busybox kill $!",
    )
    table = volumes.must(server, "cat /proc/mounts")
    assert [line.split()[1] for line in table.splitlines()].count("/proc") == 1


def test_the_brokers_death_under_load_costs_nothing(volumes, ready) -> None:
    server, volume = ready
    loop = f"for i in $(seq 5); do {OWN}/mount -t ext4 /dev/vdb /mnt && {OWN}/umount /mnt || exit 1; done"
    failed = []
    work = threading.Thread(target=lambda: failed.append(volumes.run(server, loop)))
    work.start()
    while work.is_alive():
        volumes.kill("broker")
        assert volumes.must(server, "echo there") == "there\n"
        volumes.start("broker", f"--records={volumes.records}")
        work.join(2)
    assert failed == [(0, "")], volumes.said()
    wait_for(lambda: volume.limit == 0, "the volume's size")


def test_nobody_waits_for_the_broker_but_mounts(volumes, ready) -> None:
    server, _ = ready
    volumes.kill("broker")
    done = []
    mount = threading.Thread(target=lambda: done.append(volumes.run(server, f"{OWN}/mount /dev/vdb /mnt")))
    mount.start()
    other = volumes.boot()
    assert volumes.must(other, "echo runs") == "runs\n"
    assert not done
    volumes.start("broker", f"--records={volumes.records}")
    mount.join(60)
    assert done == [(0, "")]


def test_a_holders_death_costs_nothing_either(volumes, ready) -> None:
    server, _ = ready
    wait_for(lambda: volumes.run(server, f"{OWN}/mount /dev/vdb /mnt && {OWN}/umount /mnt")[0] == 0, "a mount")
    volumes.kill("holder")
    other = volumes.lab.server()
    volumes.create(other)
    volumes.lab.engine.start(other.container_name)  # the broker keeps the socket
    volumes.start("holder")
    assert volumes.must(server, f"{OWN}/mount /dev/vdb /mnt && {OWN}/umount /mnt && echo done") == "done\n"
