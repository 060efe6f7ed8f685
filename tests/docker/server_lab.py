# SPDX-License-Identifier: Apache-2.0
"""What the driver's flows do, without Nova and without a switch."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import tarfile
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from oslo_config import cfg
from private_engine import NAMESPACES, PrivateEngine, uuid_prefix, wait_for

from dockstack.compute import conf
from dockstack.compute.containers import namespaces, runtime, spec
from dockstack.compute.host.host import build_host
from dockstack.compute.model import Address, Image, Limits, Port, Route, Server
from dockstack.compute.network import veth
from dockstack.oci.process import ImageConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.compute.engine import Container, Engine

APPLETS = [
    "cat",
    "dd",
    "echo",
    "head",
    "hostname",
    "id",
    "init",
    "ip",
    "ls",
    "mkdir",
    "nproc",
    "ping",
    "seq",
    "sh",
    "sleep",
    "stat",
    "tail",
    "touch",
    "yes",
]
_numbers = itertools.count(1)


def docker_archive(process: dict | None = None, padding: int = 0, more: Sequence[tuple[str, bytes]] = ()) -> bytes:
    """Build a docker-save archive without tags around a busybox."""
    busybox = shutil.which("busybox")
    assert busybox, "these tests need a static busybox: apt-get install busybox-static"
    files = [("bin/busybox", Path(busybox).read_bytes()), ("data/from-image", b"image\n"), ("padding", bytes(padding))]
    files += more
    layer = _tar(files, links=APPLETS)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "1000"]} | (process or {}),
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(layer).hexdigest()]},
        }
    ).encode()
    name = sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": None, "Layers": ["layer.tar"]}]).encode()
    return _tar([("manifest.json", manifest), (name, config), ("layer.tar", layer)])


def _tar(files: list[tuple[str, bytes]], links: list[str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
        for link in links or []:
            member = tarfile.TarInfo(f"bin/{link}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(member)
    return buffer.getvalue()


def make_port(number: int, index: int = 0) -> Port:
    return Port(
        id=f"{number:04x}{index:04x}-0000-4000-8000-{os.getpid():012x}",
        mac=f"fa:16:3e:00:{number % 256:02x}:{index:02x}",
        device=f"tap{number:04x}{index:04x}-{os.getpid() % 256:02x}",
        interface=f"eth{index}",
        network_id="n",
        mtu=1442,
        addresses=(
            Address(f"10.77.{index}.{number % 200 + 2}/24", f"10.77.{index}.1"),
            Address(f"fd77:0:0:{index + 1}::{number:x}/64", f"fd77:0:0:{index + 1}::ffff"),
        ),
        routes=(Route("10.99.0.0/16", f"10.77.{index}.254"),),
        dns=("10.77.0.2",),
    )


@dataclass
class Lab:
    """Does what the driver's flows do, without Nova and without a switch."""

    engine: Engine
    private: PrivateEngine
    image_id: str
    servers: list[Server] = field(default_factory=list)

    def server(self, script: str = "exec sleep 1000", **changes) -> Server:
        number = next(_numbers)
        properties = {"docker_command": json.dumps(["/bin/sh", "-c", script])} | changes.pop("properties", {})
        image = Image(id="image", name="busybox", properties=properties)
        server = Server(
            uuid=f"{uuid_prefix()}{number:06x}",
            name="a server",
            hostname=f"server-{number}",
            project_id="project",
            user_id="user",
            flavor="tiny",
            image=image,
            limits=Limits(vcpus=1, memory_mb=64, disk_gb=1),
            ports=(make_port(number),),
        )
        server = replace(server, **changes)
        self.servers.append(server)
        return server

    def create(self, server: Server, config: ImageConfig | None = None, image_id: str | None = None) -> str:
        config = config or ImageConfig(env={"PATH": "/bin"})
        namespaces.prepare(server.uuid)
        for port in server.ports:
            veth.wire(server, port)
        wanted = spec.build_spec(server, image_id or self.image_id, config, host="host")
        container_id = self.engine.create(server.container_name, wanted)
        runtime.write_patch(self.private.patches, container_id, spec.build_patch(server, config))
        return container_id

    def boot(self, script: str = "exec sleep 1000", **changes) -> Server:
        server = self.server(script, **changes)
        self.create(server)
        self.engine.start(server.container_name)
        return server

    def output(self, server: Server) -> str:
        """Wait for a server's end and return what it wrote."""
        wait_for(lambda: self.state(server).exit_code is not None, "the server's end")
        return self.engine.logs(server.container_name, 1 << 20).decode()

    def state(self, server: Server) -> Container:
        return self.engine.container(server.container_name)

    def run(self, server: Server, *command: str) -> str:
        result = self.engine.execute(server.container_name, command)
        assert result.exit_code == 0, result.output
        return result.output.decode()

    def wait_for_file(self, server: Server, path: str, content: str) -> None:
        """Wait until a server has written a file, whole: it is there before its content is."""
        read = ["/bin/busybox", "cat", path]

        def written() -> bool:
            return self.engine.execute(server.container_name, read).output.decode() == content

        wait_for(written, f"{content!r} in {path}")

    def wait_for_log(self, server: Server, text: bytes) -> None:
        """Wait until a server has said something."""
        wait_for(lambda: text in self.engine.logs(server.container_name, 1 << 20), f"{text!r} in the log")

    def destroy(self) -> None:
        for server in self.servers:
            self.engine.remove(server.container_name)
            for port in server.ports:
                veth.unwire(port)
            namespaces.remove(server.uuid)
        for container_id in runtime.patched(self.private.patches):
            runtime.remove_patch(self.private.patches, container_id)
        assert not list(NAMESPACES.glob(f"nova-{uuid_prefix()}*"))


def lab_host(private_engine: PrivateEngine, directory: Path, download=lambda _image: iter(())):
    """Build a host as nova-compute does, on an engine of the tests' own.

    Args:
        private_engine: the engine.
        directory: where the host keeps what is its own.
        download: streams an image's data, as Glance does.
    """
    options = cfg.ConfigOpts()
    conf.register(options)
    for name, value in {
        "host_url": private_engine.url,
        "patch_directory": private_engine.patches,
        "state_directory": directory,
        "lxcfs_directory": "",
    }.items():
        options.set_override(name, str(value), group="docker")
    host = build_host("host", options.docker, download)
    host.images.sweep()
    return host
