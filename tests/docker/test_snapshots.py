# SPDX-License-Identifier: Apache-2.0
"""A server of a real engine becomes an image, and a server from that image has what the first one wrote."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from glance_lab import Glance, boot_from
from private_engine import wait_for
from server_lab import docker_archive, lab_host

import image_archives
from dockstack.compute.engine import NotFound
from dockstack.compute.flows import snapshot
from dockstack.compute.host import copies
from dockstack.compute.model import Image, PowerState
from dockstack.errors import DockstackError
from dockstack.oci.normalise import ImageLimits
from dockstack.oci.process import ImageConfig
from dockstack.oci.snapshot import SnapshotError

IDENTITY = "6f9f2f0e-9d7c-4b8c-8b36-6a4f0e3d6c{:02d}"


@pytest.fixture
def glance() -> Glance:
    return Glance()


@pytest.fixture
def host(lab, private_engine, glance, tmp_path):
    host = lab_host(private_engine, tmp_path, glance.download)
    images = host.images
    yield host
    assert not left_copies(private_engine)
    lab.destroy()  # a container keeps its image
    for image_id in glance.data:
        images.remove(image_id)


def left_copies(private_engine) -> list[Path]:
    return list(private_engine.directory.glob("data/dockstack-copies/*/*"))


def written(lab, script: str, **changes):
    """Boot a server that runs a script and tells when it is done."""
    server = lab.boot(f"{script}; echo done > /done; exec sleep 1000", **changes)
    wait_for(lambda: "done" in lab.run(server, "/bin/ls", "/"), "the server's script")
    return server


def test_a_server_from_a_snapshot_of_a_snapshot(lab, host, glance):
    server = written(lab, "echo one > /data/first", metadata={"docker_env_COLOUR": "green"})
    for generation in range(3):
        image_id = IDENTITY.format(generation)
        snapshot.take(host, server, image_id, glance.upload(image_id))
        assert lab.state(server).state is PowerState.RUNNING
        server, loaded = boot_from(lab, host, glance, image_id)
        lab.run(server, "/bin/sh", "-c", f"echo {generation} > /data/later-{generation}")

    assert lab.run(server, "/bin/cat", "/data/first", "/data/from-image", "/data/later-1") == "one\nimage\n1\n"
    assert loaded.config.env["COLOUR"] == "green"
    assert loaded.config.command[:2] == ("/bin/sh", "-c")
    assert json.loads(glance.settings[image_id]["docker_env"])["COLOUR"] == "green"
    layers = docker(lab, "image", "inspect", "--format", "{{len .RootFS.Layers}}", loaded.engine_id)
    assert layers == "1", "they do not pile up"


@pytest.mark.parametrize("how", ["stop", "pause"])
def test_a_server_that_does_not_run(lab, host, glance, how):
    server = written(lab, "echo kept > /data/kept")
    lab.engine.stop(server.container_name, 0) if how == "stop" else lab.engine.pause(server.container_name)
    snapshot.take(host, server, IDENTITY.format(10), glance.upload(IDENTITY.format(10)))
    assert lab.state(server).state is (PowerState.SHUTDOWN if how == "stop" else PowerState.PAUSED)
    copy, _ = boot_from(lab, host, glance, IDENTITY.format(10))
    assert lab.run(copy, "/bin/cat", "/data/kept") == "kept\n"


def test_declared_volumes_are_in_it(lab, host, glance, engine):
    image_id = engine.load_image([docker_archive({"Volumes": {"/data": {}}})])[0]
    server = lab.server()
    lab.create(server, ImageConfig(env={"PATH": "/bin"}, volumes=("/data",)), image_id)
    engine.start(server.container_name)
    lab.run(server, "/bin/sh", "-c", "echo volume > /data/mine")
    snapshot.take(host, server, IDENTITY.format(11), glance.upload(IDENTITY.format(11)))
    copy, loaded = boot_from(lab, host, glance, IDENTITY.format(11))
    assert loaded.config.volumes == ("/data",)
    assert lab.run(copy, "/bin/cat", "/data/mine", "/data/from-image") == "volume\nimage\n"


def test_what_the_engine_places_in_a_server_is_not_in_it(lab, host, glance):
    server = written(lab, "true")
    assert "10.77.0.2" in lab.run(server, "/bin/cat", "/etc/resolv.conf")
    snapshot.take(host, server, IDENTITY.format(12), glance.upload(IDENTITY.format(12)))
    assert b"10.77.0.2" not in glance.data[IDENTITY.format(12)]
    assert server.hostname.encode() not in glance.data[IDENTITY.format(12)]


def test_a_server_that_writes_all_the_time_is_consistent(lab, host, glance):
    """Two files that get a line one after the other never differ by more than that."""
    server = lab.boot("while :; do echo >> /data/a; echo >> /data/b; done")
    wait_for(lambda: "b" in lab.run(server, "/bin/ls", "/data").split(), "the first lines")
    snapshot.take(host, server, IDENTITY.format(13), glance.upload(IDENTITY.format(13)))
    files = contents(glance.data[IDENTITY.format(13)])
    assert 0 <= len(files["data/a"]) - len(files["data/b"]) <= 1
    assert lab.state(server).state is PowerState.RUNNING


def test_deleted_in_mid_upload(lab, host, engine):
    server = written(lab, "head -c 20000000 /dev/urandom > /data/big")

    def delete_then_read(taken):
        engine.remove(server.container_name)
        with closing(taken.archive()) as chunks:
            assert sum(map(len, chunks)) > 20_000_000, "its copy can still be sent"

    snapshot.take(host, server, IDENTITY.format(14), delete_then_read)
    with pytest.raises(NotFound):
        snapshot.take(host, server, IDENTITY.format(14), delete_then_read)


def test_an_upload_that_breaks_off_leaves_nothing(lab, host):
    server = written(lab, "head -c 20000000 /dev/urandom > /data/big")

    def break_off(taken):
        with closing(taken.archive()) as chunks:
            next(chunks)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        snapshot.take(host, server, IDENTITY.format(15), break_off)
    assert lab.state(server).state is PowerState.RUNNING


def test_what_hosts_would_not_accept_is_not_sent(lab, host):
    host.images.limits = ImageLimits(max_unpacked_bytes=1 << 20)
    server = written(lab, "true")
    with pytest.raises(SnapshotError, match="more than 1 MiB"):
        snapshot.take(host, server, IDENTITY.format(16), lambda taken: pytest.fail(f"sent {taken}"))


def test_a_killed_snapshot_is_swept_and_its_server_goes_on(lab, host, engine, private_engine):
    server = written(lab, "true")
    container = host.container(server.uuid)
    name, killed = IDENTITY.format(17), copies.make

    def stand_still():
        copies.privileged.note(*copies.find_place(host), name, container.id)
        engine.pause(container.id)
        raise InterruptedError("kill -9")

    with pytest.raises(InterruptedError):
        killed(host, container, name, stand_still)
    assert left_copies(private_engine)
    assert lab.state(server).state is PowerState.PAUSED
    copies.sweep(host)
    assert lab.state(server).state is PowerState.RUNNING


def test_throughput(lab, host, glance, capsys):
    """200 MB of noise: how long the server stands still, how long all takes; beside `docker save`."""
    server = written(lab, "head -c 200000000 /dev/urandom > /data/big")
    stood_still = []

    def watch(stop: threading.Event) -> None:
        while not stop.is_set():
            if lab.state(server).state is PowerState.PAUSED:
                stood_still.append(time.monotonic())
            stop.wait(0.02)

    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=[stop])
    watcher.start()
    began = time.monotonic()

    def upload(taken) -> None:
        assert lab.state(server).state is PowerState.RUNNING, "it stands still no longer than it is copied"
        glance.upload(IDENTITY.format(18))(taken)

    try:
        snapshot.take(host, server, IDENTITY.format(18), upload)
    finally:
        whole = time.monotonic() - began
        stop.set()
        watcher.join()
    began = time.monotonic()
    saved = docker_save(lab, host, glance, IDENTITY.format(18))
    frozen = stood_still[-1] - stood_still[0] if stood_still else 0
    with capsys.disabled():
        print(f"\n200 MB: stood still {frozen:.1f} s, all {whole:.1f} s; docker save {saved:.1f} s")


def contents(archive: bytes) -> dict[str, bytes]:
    """Return the files of the only layer of an image."""
    outer = tarfile.open(fileobj=io.BytesIO(archive))  # noqa: SIM115 - in memory
    [manifest] = json.load(outer.extractfile("manifest.json"))
    [layer] = manifest["Layers"]
    inner = tarfile.open(fileobj=outer.extractfile(layer))  # noqa: SIM115 - in memory
    return {member.name: inner.extractfile(member).read() for member in inner if member.isreg()}


def docker(lab, *arguments: str) -> str:
    client = shutil.which("docker")
    assert client, "these tests need the engine's client: apt-get install docker.io"
    result = subprocess.run([client, "-H", lab.private.url, *arguments], check=True, capture_output=True, text=True)
    return result.stdout.strip()


def docker_save(lab, host, glance, image_id: str) -> float:
    loaded = host.images.ensure(glance.image(image_id), 0)
    began = time.monotonic()
    for _ in lab.engine.save_image(loaded.engine_id):
        pass
    return time.monotonic() - began


def test_a_link_that_climbs_above_the_root_stays_inside(lab, host, glance):
    server = written(lab, "echo own > /data/own; /bin/busybox ln -s ../../../../../../../../data/own /data/climbs")
    snapshot.take(host, server, IDENTITY.format(19), glance.upload(IDENTITY.format(19)))
    copy, _ = boot_from(lab, host, glance, IDENTITY.format(19))
    assert lab.run(copy, "/bin/cat", "/data/climbs") == "own\n"


def test_what_is_written_through_a_link_that_climbs_stays_inside(lab, host, glance):
    """An archive that first makes a link out of its root, then a file below it."""
    target = f"/tmp/dockstack-escaped-{IDENTITY.format(20)}"
    link = image_archives.entry("out", tarfile.SYMTYPE, "../../../../../../../../../../../../tmp")
    layer = image_archives.tar([link, (f"out/{target.rpartition('/')[2]}", b"escaped")])
    archive = image_archives.docker_save([layer])
    image = Image(id=IDENTITY.format(20), name="hostile", checksum=hashlib.sha512(archive).hexdigest())
    glance.data[image.id] = archive
    with contextlib.suppress(DockstackError):  # refused is as good
        host.images.ensure(image, 0)
    assert not Path(target).exists()
