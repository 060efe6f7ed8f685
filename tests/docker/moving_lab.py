# SPDX-License-Identifier: Apache-2.0
"""Two hosts with an engine each, and a server that moves from the one to the other, without Nova and without SSH."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from oslo_config import cfg
from private_engine import wait_for
from server_lab import docker_archive

from dockstack.compute import conf
from dockstack.compute.flows import cold_migration, lifecycle
from dockstack.compute.host.host import build_host
from dockstack.compute.model import Destination, Image, Limits

# Stands for SSH: drops the client's options and the address, and does what the other host's shell would.
CLIENT = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
shift
{broken}
exec sh -c "$1"
"""
RECEIVER = """#!/bin/sh
exec {python} -m dockstack.compute.transfer.receiver --directory {directory} "$@"
"""
WRITE = """
b=/bin/busybox
$b rm /data/from-image; $b rm -r /padding; mkdir /padding; echo new > /padding/inside
mkdir -p /srv/deep; echo hello > /srv/deep/file; $b chown 1234:4321 /srv/deep/file; $b chmod 4750 /srv/deep/file
$b ln /srv/deep/file /srv/deep/hard; $b ln -s /etc/passwd /srv/soft; $b mkfifo /srv/pipe
$b yes Z | head -c 5000000 > /srv/much
echo ready > /srv/ready; exec sleep 1000
"""
NEW = Limits(vcpus=1, memory_mb=96, disk_gb=1)


def make_host(name, private, directory, peer=None, broken=""):
    options = cfg.ConfigOpts()
    options.register_opts(conf.OPTIONS, group="docker")  # conf.register would share its group among hosts
    directory.mkdir(exist_ok=True)
    client, receiver = directory / "client", directory / "receiver"
    client.write_text(CLIENT.replace("{broken}", broken.replace("{mark}", str(directory / "broken"))))
    receiver.write_text(RECEIVER.format(python=sys.executable, directory=f"{peer}/migrations"))
    for script in (client, receiver):
        script.chmod(0o755)
    for option, value in {
        "host_url": private.url,
        "state_directory": str(directory),
        "patch_directory": str(private.patches),
        "migration_transport": "ssh",
        "migration_ssh_command": str(client),
        "migration_receiver": str(receiver),
        "lxcfs_directory": "",
        "migration_tries": 2,
    }.items():
        options.set_override(option, value, group="docker")
    host = build_host(name, options.docker, lambda _image: iter([docker_archive()]))
    host.images.sweep()
    cold_migration.announce(host)
    return host


class Pair:
    """Two hosts, and a server on the first."""

    def __init__(self, private, other, tmp_path, lab) -> None:
        self.tmp_path, self.private, self.lab = tmp_path, private, lab
        self.there = make_host("there", other, tmp_path / "there", tmp_path / "here")
        self.here = self.connect()
        self.server = lab.server(ports=(), image=Image(id="image", name="busybox"))

    def connect(self, broken=""):
        return make_host("here", self.private, self.tmp_path / "here", self.tmp_path / "there", broken)

    def boot(self):
        properties = {"docker_command": '["/bin/sh", "-c", ' + repr(WRITE).replace("'", '"') + "]"}
        server = replace(self.server, image=replace(self.server.image, properties=properties))
        lifecycle.spawn(self.here, server, no_events)
        root = self.root(self.here)
        wait_for(lambda: is_ready(root, 0), "the server's files")
        os.setxattr(root / "srv/deep/file", "user.note", b"\0\xff kept")
        return describe(root)

    def find(self, host):
        return host.engine.container(self.server.container_name)

    def root(self, host):
        return Path(f"/proc/{self.find(host).pid}/root")

    def send(self, image):
        return self.send_from(self.here, self.there, image)

    def send_from(self, source, target, image):
        wanted = replace(self.server, limits=NEW)
        destination = Destination(target.name, f"{target.name}.example")
        return cold_migration.begin(source, self.server, wanted, destination, image=image, timeout=0)

    def receive(self, sent):
        self.receive_at(self.there, sent)

    def receive_at(self, target, sent):
        server = replace(self.server, limits=NEW)
        cold_migration.finish(target, server, sent, self.server.image, no_events, power_on=True)

    def run(self, host, command):
        done = host.engine.execute(self.server.container_name, ["/bin/sh", "-c", command])
        assert done.exit_code == 0, done
        return done.output

    def parts(self):
        return sorted(
            path.name for path in (self.tmp_path / "there/migrations").glob("*-*/*") if path.name != "payload"
        )


@contextmanager
def no_events(_ports):
    yield set()


def describe(root: Path) -> dict[str, tuple]:
    """What must survive of every file that the server wrote."""
    found = {}
    for path in sorted([*root.glob("srv/**/*"), *root.glob("data/*"), *root.glob("padding/*")]):
        status = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        notes = {name: os.getxattr(path, name) for name in os.listxattr(path, follow_symlinks=False) if "user." in name}
        found[str(path.relative_to(root))] = (
            oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink * (not path.is_dir()),
            status.st_mtime_ns, content, notes,
        )  # fmt: skip
    return found


def is_ready(root: Path, since_ns: int) -> bool:
    """Whether the server's script has written all of its files, after a moment."""
    ready = root / "srv/ready"
    try:
        return ready.read_text() == "ready\n" and ready.stat().st_mtime_ns > since_ns
    except FileNotFoundError:
        return False


def moved(before: dict[str, tuple], root: Path) -> None:
    """Compare; the first process writes some files again when it starts, and is waited for."""
    wait_for(lambda: is_ready(root, before["srv/ready"][4]), "the server's files once more")
    after = describe(root)
    assert before["srv/deep/file"][6] == {"user.note": b"\0\xff kept"}
    assert before.keys() == after.keys()
    for name in ("srv/deep/hard", "srv/soft", "srv/pipe"):
        assert before[name][:4] == after[name][:4], name
    assert "data/from-image" not in after, "a file that the server deleted came back"
    assert list((root / "padding").iterdir()) == [root / "padding/inside"]
