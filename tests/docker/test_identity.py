# SPDX-License-Identifier: Apache-2.0
"""Keys, files, passwords and config drives in servers of a real engine, made by the driver's own flows."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import tarfile
from contextlib import nullcontext, suppress
from hashlib import sha256
from pathlib import Path

import pytest
from server_lab import docker_archive, lab_host

from dockstack.compute.engine import EngineError
from dockstack.compute.flows import guest_access, lifecycle
from dockstack.compute.guest.injected_files import PlacementError
from dockstack.compute.model import Confinement, Image, InjectedFile

KEY = "ssh-ed25519 AAAA me@example"


_numbers = itertools.count(1)


def no_ports(_ports):
    return nullcontext(set())


def archive_of(entries: list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Add entries to the busybox image's only layer."""
    with tarfile.open(fileobj=io.BytesIO(docker_archive())) as archive:
        layer = archive.extractfile("layer.tar").read()
        config = json.load(archive.extractfile(json.load(archive.extractfile("manifest.json"))[0]["Config"]))
    buffer = io.BytesIO(layer)
    with tarfile.open(fileobj=buffer, mode="a") as more:
        for entry in entries:
            info, data = entry if isinstance(entry, tuple) else (entry, b"")
            info.size = len(data)
            more.addfile(info, io.BytesIO(data))
    layer = buffer.getvalue()
    config["rootfs"]["diff_ids"] = ["sha256:" + sha256(layer).hexdigest()]
    raw = json.dumps(config).encode()
    name = sha256(raw).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": None, "Layers": ["layer.tar"]}]).encode()
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for member, data in (("manifest.json", manifest), (name, raw), ("layer.tar", layer)):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return whole.getvalue()


def link(path: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def file(path: str, data: bytes, mode: int = 0o644, owner: int = 0) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(path)
    info.mode, info.uid, info.gid = mode, owner, owner
    return info, data


def directory(path: str, owner: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, 0o755, owner, owner
    return info


@pytest.fixture
def make_host(private_engine, engine, tmp_path):
    """Build a host whose images are these archives, by Glance id."""

    def build(archives: dict[str, bytes]):
        return lab_host(private_engine, private_engine.directory, lambda image: iter([archives[image.id]]))

    return build


@pytest.fixture
def spawn(lab, make_host):
    """Make a server from the busybox image and what is added to it."""
    made = []

    def work(entries=(), properties=None, drive=None, **changes):
        number = f"image-{os.getpid()}-{next(_numbers)}"
        host = make_host({number: archive_of(list(entries))})
        server = lab.server(ports=(), **changes)
        properties = server.image.properties | (properties or {})
        server = type(server)(**(vars(server) | {"image": Image(id=number, name=number, properties=properties)}))
        made.append((host, server))
        lifecycle.spawn(host, server, no_ports, read_drive=(lambda: drive) if drive else None)
        return host, server

    yield work
    for host, server in made:
        lifecycle.destroy(host, server)


def test_a_key_is_placed_in_a_busybox_alone(spawn, lab) -> None:
    _, server = spawn(key_data=KEY)
    assert lab.run(server, "cat", "/root/.ssh/authorized_keys") == KEY + "\n"
    assert (
        lab.run(server, "ls", "-ldn", "/root/.ssh", "/root/.ssh/authorized_keys")
        .splitlines()[0]
        .startswith("drwx------")
    )
    lab.run(server, "sh", "-c", "echo mine > /root/.ssh/authorized_keys")
    lab.engine.stop(server.container_name, 0)
    lab.engine.start(server.container_name)
    assert lab.run(server, "cat", "/root/.ssh/authorized_keys") == "mine\n"


def test_the_images_user_gets_it_with_the_right_owner(spawn, lab) -> None:
    inside = [
        file("etc/passwd", b"root:x:0:0::/root:/bin/sh\napp:x:77:78::/srv/app:/bin/sh\n"),
        directory("srv/app", 77),
    ]
    _, server = spawn(inside, {"docker_user": "app"}, key_data=KEY)
    assert lab.run(server, "cat", "/srv/app/.ssh/authorized_keys") == KEY + "\n"
    listed = lab.run(server, "ls", "-ldn", "/srv/app/.ssh", "/srv/app/.ssh/authorized_keys").split("\n")
    assert all(line.split()[2:4] == ["77", "78"] for line in listed if line)


@pytest.mark.parametrize(
    "hostile",
    [
        [link("root/.ssh", "{outside}")],
        [link("root", "{outside}")],
        [link("root", "tmp/somewhere"), link("tmp/somewhere", "{outside}")],
        [directory("root/.ssh"), link("root/.ssh/authorized_keys", "{outside}/authorized_keys")],
        [file("etc/passwd", b"root:x:0:0::{outside}:/bin/sh\n")],
        [file("etc/passwd", b"root:x:0:0::/../../../../../../..{outside}:/bin/sh\n")],
    ],
    ids=["ssh", "home", "home by two links", "file", "passwd", "climbing passwd"],
)
def test_no_link_of_an_image_leads_out_of_its_root(spawn, tmp_path, hostile) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    entries = []
    for entry in hostile:
        info, data = entry if isinstance(entry, tuple) else (entry, b"")
        info = tarfile.TarInfo.frombuf(info.tobuf(), "utf-8", "strict")
        info.linkname = info.linkname.format(outside=outside)
        entries.append((info, data.replace(b"{outside}", bytes(outside))))
    files = (InjectedFile(f"/root/../..{outside}/file", b"x"),)
    with suppress(EngineError):  # a home that leads nowhere within the root is an error of that image
        spawn(entries, key_data=KEY, files=files)
    assert list(outside.iterdir()) == []


def test_injected_files(spawn, lab) -> None:
    files = (InjectedFile("/etc/motd", b"hello\n"), InjectedFile("/new/deep/file", b"\0\xff"))
    _, server = spawn(files=files)
    assert lab.run(server, "cat", "/etc/motd") == "hello\n"
    assert lab.engine.read_file(server.container_name, "/new/deep/file", 10).data == b"\0\xff"


def test_a_file_never_takes_the_place_of_a_directory(spawn, lab) -> None:
    with pytest.raises(EngineError, match="cannot overwrite directory"):
        spawn(files=(InjectedFile("/bin", b"x"),))
    with pytest.raises(PlacementError):
        spawn(files=(InjectedFile("/", b"x"),))


def test_reading_files_is_bounded_and_takes_plain_ones_only(spawn, lab) -> None:
    _, server = spawn([link("etc/link", "/data/from-image")])
    name = server.container_name
    assert lab.engine.read_file(name, "/data/from-image", 100).data == b"image\n"
    assert lab.engine.read_file(name, "/data/from-image", 3) is None
    assert lab.engine.read_file(name, "/etc/link", 100) is None
    assert lab.engine.read_file(name, "/data", 100) is None
    assert lab.engine.read_file(name, "/none", 100) is None
    assert lab.engine.has_path(name, "/data")
    assert not lab.engine.has_path(name, "/none/at/all")


def test_a_password_is_written_where_there_is_no_chpasswd(spawn, lab) -> None:
    inside = [file("etc/shadow", b"root:*:1:0:::::\n", 0o640), file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n")]
    host, server = spawn(inside)
    guest_access.set_password(host, server, "root", "geheim")
    text = lab.run(server, "cat", "/etc/shadow")
    assert text.startswith("root:$6$")
    assert lab.run(server, "ls", "-ln", "/etc/shadow").startswith("-rw-r-----")


def test_a_config_drive_is_read_only_and_survives_reboots(spawn, lab) -> None:
    content = {"openstack/latest/meta_data.json": b'{"uuid": "x"}', "openstack/latest/user_data": b"secret"}
    host, server = spawn(drive=content)
    for point in ("/config-drive", "/var/lib/cloud/seed/config_drive"):
        assert lab.run(server, "cat", f"{point}/openstack/latest/user_data") == "secret"
        denied = lab.engine.execute(server.container_name, ["touch", f"{point}/openstack/x"])
        assert b"Read-only file system" in denied.output
    drive = Path(host.options.state_directory) / "drives" / server.uuid
    assert drive.is_dir()
    lifecycle.reboot(host, server, hard=True)
    assert lab.run(server, "cat", "/config-drive/openstack/latest/user_data") == "secret"
    lifecycle.destroy(host, server)
    assert not drive.exists()


@pytest.mark.parametrize("kept", [False, True])
def test_setuid_programs_gain_something_unless_the_flavor_says_otherwise(spawn, lab, kept) -> None:
    _, server = spawn(confinement=Confinement(no_new_privileges=kept))
    status = lab.run(server, "cat", "/proc/self/status")
    assert f"NoNewPrivs:\t{int(kept)}" in status
    assert "Seccomp:\t2" in status


def test_a_flavor_can_open_a_server(spawn, lab) -> None:
    opened = Confinement(cap_add=("SYS_ADMIN", "NET_ADMIN"), cap_drop=("NET_RAW",), devices=("/dev/fuse",))
    _, server = spawn(confinement=opened)
    lab.run(server, "/bin/busybox", "mount", "-t", "tmpfs", "none", "/data")
    assert lab.run(server, "/bin/busybox", "stat", "-c", "%F", "/dev/fuse") == "character special file\n"
    assert b"permission denied" in lab.engine.execute(server.container_name, ["ping", "-c1", "127.0.0.1"]).output
    with pytest.raises(EngineError, match="error gathering device"):
        spawn(confinement=Confinement(devices=("/dev/none",)))


def may_everything() -> bool:
    """Whether this machine's root has every capability of its kernel; a sandbox may keep some back."""
    status = Path("/proc/self/status").read_text()
    bounding = int(re.search(r"CapBnd:\s*(\S+)", status)[1], 16)
    return bounding == (2 << int(Path("/proc/sys/kernel/cap_last_cap").read_text())) - 1


@pytest.mark.skipif(not may_everything(), reason="this machine's root lacks capabilities: no container can have all")
def test_a_flavor_can_make_a_server_privileged(spawn, lab) -> None:
    _, server = spawn(confinement=Confinement(privileged=True))
    assert "Seccomp:\t0" in lab.run(server, "cat", "/proc/self/status")


def test_what_is_the_machines_is_out_of_reach(spawn, lab) -> None:
    _, server = spawn()
    for command, refusal in (
        ("echo h > /proc/sysrq-trigger", b"ead-only file system|nonexistent"),  # not every kernel has it
        ("echo 1 > /proc/sys/kernel/panic", b"Read-only file system"),
        ("cd /sys/fs/cgroup/memory 2> /dev/null || cd /sys/fs/cgroup; mkdir x", b"Read-only file system"),
        ("/bin/busybox mount -t tmpfs none /data", b"denied"),
        ("/bin/busybox mknod /x b 259 0 && cat /x", b"Operation not permitted"),
        ("/bin/busybox unshare -U true", b"Operation not permitted"),
        ("/bin/busybox date -s 2001-01-01", b"Operation not permitted"),
    ):
        done = lab.engine.execute(server.container_name, ["sh", "-c", command])
        assert re.search(refusal, done.output), (command, done)
