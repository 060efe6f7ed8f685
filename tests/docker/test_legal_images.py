# SPDX-License-Identifier: Apache-2.0
"""The engine's word is the measure: what it loads and runs, a server boots from (legal, odd and rare archives)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
import uuid
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from private_engine import ENGINE_ROOT, wait_for
from server_lab import lab_host

from dockstack.compute.containers import ending
from dockstack.compute.engine import EngineError, ImageUnusable
from dockstack.compute.flows import endings, lifecycle
from dockstack.compute.model import Image
from dockstack.oci.documents import ImageRejected
from image_archives import pieces, tar
from legal_archives import CASES, IMPORTED, NO_ZSTD, Maker, node, rootfs, save
from odd_archives import ODD, RUNNING
from rare_archives import RARE, RARE_RUNNING

SHELL = Path(shutil.which("busybox") or "/bin/false").read_bytes()
STAYS = {"docker_command": json.dumps(["/bin/sh", "-c", "echo up; exec /bin/sleep 1000"])}
# Those that differ in what runs, not only in how the archive says it
BOOTED = [
    *("docker-29", "buildah-dual-compression", "referrer-sbom", "layers-125", "names-of-no-encoding", "sparse-pax"),
    *("zeros", "command-of-one-string", "stop-signal-of-nobody", "stop-signal-real-time", "s6-init", "init-from-run"),
    *("what-amd64-runs-besides", "rootfs-docker-export", "rootfs-web-manifest", "rootfs-layout", "rootfs-template"),
]


@pytest.fixture
def spawn(lab, private_engine, tmp_path):
    """Boot a server from an archive, as the driver does."""
    made = []

    def work(data: bytes, **properties: str):
        host = lab_host(private_engine, tmp_path, lambda _image: pieces(data))
        image = Image(id=str(uuid.uuid4()), name="legal", size=len(data), properties=properties)
        server = replace(lab.server(ports=()), image=image)
        made.append((host, server))
        lifecycle.spawn(host, server, lambda _ports: nullcontext(set()))
        return host, server

    yield work
    for host, server in made:
        lifecycle.destroy(host, server)
        host.images.remove(server.image.id)


def loaded(load, *refusals: type[Exception], because: str = "") -> set[str]:
    """The ids of what was loaded; none if it was refused, for the reason that is meant."""
    try:
        return load()
    except refusals as error:
        if not re.search(because, f"{error}{error.details}"):
            raise
        return set()


LONG = {"layers-125"}  # the engine takes its time, and that it loads is seen when it runs
ALL = CASES | ODD | RARE
COMPARED = [name for name, case in ALL.items() if case.engine is not IMPORTED and name not in LONG]


@pytest.mark.parametrize("name", COMPARED)
def test_the_table_says_what_the_engine_does(name, engine, private_engine, tmp_path):
    case, data = ALL[name], ALL[name].build(Maker(5))
    host = lab_host(private_engine, tmp_path, lambda _image: pieces(data))
    image = Image(id=str(uuid.uuid4()), name=name, size=len(data))
    refusals = ImageRejected, ImageUnusable
    ours = loaded(lambda: {host.images.ensure(image, 1 << 30).engine_id}, *refusals, because=case.refused)
    host.images.remove(image.id)  # an engine that has a layer does not look at it again
    assert bool(ours) != bool(case.refused)
    theirs = loaded(lambda: set(engine.load_image(pieces(data))), EngineError)
    for engine_id in theirs:
        for name_or_id in engine.image(engine_id).tags or (engine_id,):
            engine.remove_image(name_or_id)
    assert bool(theirs) == (case.engine.startswith("loads") or (bool(ENGINE_ROOT) and case.engine == NO_ZSTD))
    assert not (ours and theirs) or ours == theirs, "it is another image than the engine takes it for"


@pytest.mark.parametrize("name", [*BOOTED, *RUNNING, *RARE_RUNNING])
def test_it_runs(name, spawn, lab):
    data = ALL[name].build(Maker(6, SHELL))
    host, server = spawn(data, **(STAYS if ALL[name].engine is IMPORTED else {}))
    lab.wait_for_log(server, b"up")
    if name.startswith("stop-signal"):
        lifecycle.stop(host, server, 1)
        lifecycle.start(host, server)
    assert lab.state(server).exit_code is None


@pytest.mark.parametrize(
    "name", [name for name, case in RARE.items() if name.startswith("volume") and not case.refused]
)
def test_no_volume_of_the_engine_comes_about(name, spawn, private_engine):
    """It would be a disk without a bound; the engine reads names in any case."""
    _, server = spawn(ALL[name].build(Maker(6, SHELL)))
    command = ["docker", "-H", private_engine.url, "inspect", "-f", "{{json .Mounts}}", server.container_name]
    mounts = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert [mount["Destination"] for mount in mounts if mount["Type"] == "volume"] == []


def test_what_a_layer_has_twice_is_for_the_engine_to_refuse(engine, private_engine, tmp_path):
    data = save(Maker(5), [tar([("etc/twice", b"1"), ("etc/twice", b"2")])])
    host = lab_host(private_engine, tmp_path, lambda _image: pieces(data))
    with pytest.raises(ImageUnusable, match="duplicates"):
        host.images.ensure(Image(id=str(uuid.uuid4()), name="twice", size=len(data)), 1 << 30)


def test_a_device_node_is_harmless(spawn, lab):
    nodes = (node("srv/disk", tarfile.BLKTYPE, 8, 0), node("srv/mem", tarfile.CHRTYPE, 1, 1))
    data = save(Maker(7, SHELL), [tar(Maker(7, SHELL).root()), tar([*nodes, node("srv/zero", tarfile.CHRTYPE, 1, 5)])])
    _, server = spawn(data)
    read = ["/bin/busybox", "head", "-c", "1"]
    assert lab.engine.execute(server.container_name, [*read, "/srv/zero"]).output == b"\0"
    for path in ("/srv/disk", "/srv/mem"):
        done = lab.engine.execute(server.container_name, [*read, path])
        assert (done.exit_code, b"ot permitted" in done.output) == (1, True), done


def test_what_ends_at_once_says_so(spawn, lab):
    host, server = spawn(rootfs()(Maker(8, SHELL)))
    wait_for(lambda: lab.state(server).exit_code is not None, "the shell's end")
    assert ending.is_early(lab.state(server))
    said = endings.read_log(host, server).decode()
    assert re.match(r"\[dockstack\] The first process \(/bin/sh\) ended after \d\.\d s ", said), said
    assert "with status 0. So does a shell without a terminal: set docker_tty=true" in said


def test_a_shell_with_a_terminal_stays(spawn, lab):
    host, server = spawn(rootfs()(Maker(9, SHELL)), docker_tty="true")
    assert lab.engine.execute(server.container_name, ["/bin/busybox", "true"]).exit_code == 0
    assert lab.state(server).exit_code is None
    assert b"[dockstack]" not in endings.read_log(host, server)
