# SPDX-License-Identifier: Apache-2.0
"""Volumes and a mount broker for servers of the tests: files under loop devices, with records as a host keeps them."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import traceback
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from private_engine import wait_for
from server_lab import Lab, docker_archive

from dockstack.compute.containers import runtime, spec
from dockstack.deploy.node import processes
from dockstack.mounts import kernel, loops
from dockstack.oci.process import ImageConfig

if TYPE_CHECKING:
    from dockstack.compute.model import Server

SOURCE = Path(__file__).resolve().parents[2] / "src"
# Of the machine, what an image of a busybox lacks; here in a directory of their own.
PROGRAMS = {"mount": "/usr/bin/mount", "umount": "/usr/bin/umount", "mkfs.ext4": "/usr/sbin/mkfs.ext4"}


@dataclass
class Volume:
    """One volume.

    Attributes:
        uuid: its own.
        file: with its bytes.
        loop: its device on the host.
    """

    uuid: str
    file: Path
    loop: str

    @property
    def device(self) -> int:
        return Path("/dev", self.loop).stat().st_rdev

    @property
    def limit(self) -> int:
        return int(Path(f"/sys/block/{self.loop}/loop/sizelimit").read_text())


def programs() -> list[tuple[str, bytes]]:
    """Return the programs and the libraries that they need, by their paths in an image."""
    found = {f"usr/own/{name}": Path(path).read_bytes() for name, path in PROGRAMS.items()}
    for path in PROGRAMS.values():
        for library in re.findall(
            r"(/\S+)", subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
        ):
            found[library[1:]] = Path(library).read_bytes()
    return list(found.items())


class VolumeLab:
    """A broker, and what a host does when a server gets a volume.

    Args:
        lab: of the servers.
        directory: for all that is the volumes'.
    """

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab, self.directory = lab, directory
        self.records, self.sockets = directory / "records", directory / "sockets"
        self.log = directory / "log"
        self.volumes: list[Volume] = []
        self.image_id = lab.engine.load_image([docker_archive(more=programs())])[0]
        self._programs: dict[str, subprocess.Popen] = {}

    def start(self, name: str, *arguments: str) -> subprocess.Popen:
        """Start the holder or the broker."""
        command = [sys.executable, "-m", f"dockstack.mounts.{name}", f"--directory={self.sockets}", *arguments]
        with self.log.open("a") as log:
            environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
            self._programs[name] = subprocess.Popen(command, stderr=log, stdout=log, env=environment)
        return self._programs[name]

    def start_both(self) -> None:
        self.start("holder")
        self.start("broker", f"--records={self.records}")
        wait_for((self.sockets / "seccomp.sock").exists, "the holder")

    def kill(self, name: str) -> None:
        self._programs[name].kill()
        self._programs[name].wait()

    def stop(self, name: str) -> None:
        """Ask it to end, as a supervisor does."""
        self._programs[name].terminate()
        assert self._programs[name].wait(30) == 0

    def holders(self) -> list[int]:
        """Return the holders' processes, also of one that goes on after it was stopped."""
        return processes.with_arguments(f"--directory={self.sockets}")

    def said(self) -> str:
        return self.log.read_text()

    def create(self, server: Server) -> str:
        """Create a server that may mount, with programs for that."""
        container_id = self.lab.create(server, image_id=self.image_id)
        config = ImageConfig(env={"PATH": "/bin"})
        patch = spec.build_patch(server, config)
        patch = replace(patch, volume_mounts="kernel", mount_socket=str(self.sockets / "seccomp.sock"))
        runtime.write_patch(self.lab.private.patches, container_id, patch)
        return container_id

    def boot(self, script: str = "exec sleep 1000", **changes) -> Server:
        server = self.lab.server(script, **changes)
        self.create(server)
        self.lab.engine.start(server.container_name)
        return server

    def volume(self, megabytes: int = 16) -> Volume:
        identity = str(uuid.uuid4())
        file = self.directory / f"volume-{identity}"
        with file.open("wb") as made:
            made.truncate(megabytes << 20)
        return self._hold(identity, file, "tests")

    def over(self, identity: str, file: Path) -> Volume:
        """Return the volume that a file is, which somebody else has made."""
        return self._hold(identity, file, "tests")

    def second_host(self, volume: Volume) -> Volume:
        """Return a volume as another host of the machine has it: by a device of its own."""
        return self._hold(volume.uuid, volume.file, "other")

    def _hold(self, identity: str, file: Path, host: str) -> Volume:
        with file.open("r+b") as opened:
            name, descriptor = loops.configure(opened.fileno(), 0, loops.VOLUME_LABEL + f"{identity}:{host}".encode())
        os.close(descriptor)
        self.volumes.append(Volume(identity, file, name))
        return self.volumes[-1]

    def attach(self, server: Server, volume: Volume, name: str = "vdb", *, read_only: bool = False) -> None:
        """Note it, and let the server have the device, as room "volumes" of a host does it."""
        record = {"volume": volume.uuid, "device": name, "major": os.major(volume.device)}
        record |= {"minor": os.minor(volume.device), "read_only": read_only}
        (self.records / server.uuid).mkdir(parents=True, exist_ok=True)
        (self.records / server.uuid / f"{volume.uuid}.json").write_text(json.dumps(record))
        self.give_node(server, volume, name)

    def give_node(self, server: Server, volume: Volume, name: str = "vdb") -> None:
        """Let a running server open a device."""
        pid, device = self.lab.state(server).pid, volume.device
        allow_device(pid, device)
        child = os.fork()
        if not child:
            try:
                kernel.enter(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY))
                os.mknod(f"/dev/{name}", 0o660 | stat.S_IFBLK, device)
                links = Path("/dev/disk/by-id")
                links.mkdir(parents=True, exist_ok=True)
                link = links / f"virtio-{volume.uuid[:20]}"
                link.unlink(missing_ok=True)
                link.symlink_to(f"../../{name}")
                os._exit(0)
            except BaseException:  # noqa: BLE001 - the top of a process
                traceback.print_exc()
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0

    def _bounds_file(self, server: Server) -> Path:
        groups = Path(f"/proc/{self.lab.state(server).pid}/cgroup").read_text().splitlines()
        (path,) = [line.split(":")[2] for line in groups if "blkio" in line.split(":")[1].split(",")]
        return Path(f"/sys/fs/cgroup/blkio{path}/blkio.throttle.write_bps_device")

    def bounds(self, server: Server) -> list[str]:
        """Return the kernel's lines on how many bytes a second a server may write to devices."""
        return self._bounds_file(server).read_text().splitlines()

    def bound_writing(self, server: Server, volume: Volume, rate: int) -> None:
        """Do what a host does for a QoS spec of a volume; 0 is no bound."""
        number = f"{os.major(volume.device)}:{os.minor(volume.device)}"
        self._bounds_file(server).write_text(f"{number} {rate}\n")

    def mounted(self, volume: Volume) -> str | None:
        """Return the name of the second device over a volume."""
        with loops.opened(volume.loop) as loop:
            return loops.find_mounted(loop)

    def run(self, server: Server, script: str) -> tuple[int, str]:
        """Run a shell in a server; return its status and what it said."""
        done = self.lab.engine.execute(server.container_name, ["/bin/busybox", "sh", "-c", script])
        return done.exit_code, done.output.decode()

    def must(self, server: Server, script: str) -> str:
        status, said = self.run(server, script)
        assert status == 0, (said, self.said())
        return said

    def clean(self) -> None:
        """End all of it; nothing may be left, so the servers are gone by now."""
        for program in self._programs.values():
            program.kill()
            program.wait()
        processes.end(self.holders(), 5)
        for volume in self.volumes:
            subprocess.run(["losetup", "--detach", f"/dev/{volume.loop}"], check=False, stderr=subprocess.DEVNULL)


def allow_device(pid: int, device: int) -> None:
    """Let the control group of a server open a device, on either version of control groups."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "devices" in controllers.split(","):
            rule = f"b {os.major(device)}:{os.minor(device)} rwm"
            Path(f"/sys/fs/cgroup/devices{path}/devices.allow").write_text(rule)
