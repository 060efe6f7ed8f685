# SPDX-License-Identifier: Apache-2.0
"""Images against a real engine: every kind loads under its own id, hostile ones leave it as it was."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import tarfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from server_lab import docker_archive

from dockstack.compute.engine import Engine, NotFound
from dockstack.compute.images.fetch import CHECKSUM_REPOSITORY, GLANCE_REPOSITORY, ImageStore
from dockstack.compute.model import Image
from dockstack.oci.documents import go_architecture
from dockstack.oci.normalise import ImageLimits, ImageRejected
from image_archives import (
    COMPRESS,
    HOSTILE,
    config,
    docker_save,
    entry,
    multi_platform,
    oci_archive,
    pieces,
    sample_layer,
    sha256,
    tar,
)

LIMITS = ImageLimits(max_unpacked_bytes=64 << 20)
HERE = go_architecture(platform.machine())[0]


class Glance:
    """Images to download, and how often they were."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.downloads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def add(self, data: bytes, **more) -> Image:
        image_id = str(uuid.uuid4())
        self.data[image_id] = data
        return Image(**({"id": image_id, "name": "test", "checksum": sha256(data) * 2, "size": len(data)} | more))

    def download(self, image: Image):
        self.downloads.append(image.id)
        assert self.gate.wait(120)
        return pieces(self.data[image.id])


@pytest.fixture
def glance():
    return Glance()


@pytest.fixture
def store(engine, glance, tmp_path):
    store = ImageStore(engine, glance.download, tmp_path / "workspace", LIMITS)
    store.sweep()
    yield store
    assert list((tmp_path / "workspace").iterdir()) == []
    for image_id in glance.data:
        store.remove(image_id)


def unique() -> list[bytes]:
    """A layer that no other test has."""
    return [sample_layer(uuid.uuid4().hex)]


def listing(engine) -> set[tuple[str, tuple[str, ...]]]:
    return {(image.id, image.tags) for image in engine.images()}


@pytest.mark.parametrize("inner", COMPRESS)
@pytest.mark.parametrize("kind", [docker_save, oci_archive])
def test_every_kind_loads_under_its_own_id(kind, inner, store, glance, engine):
    layers = [*unique(), sample_layer()]
    loaded = store.ensure(glance.add(COMPRESS["zstd"](kind(layers, compress=inner))), 0)
    assert loaded.engine_id == "sha256:" + sha256(config(layers))
    assert engine.image(loaded.engine_id).config["Cmd"] == ["/bin/true"]
    assert loaded.config.env == {"A": "b=c", "PATH": "/bin"}


def test_an_index_loads_this_machines_image(store, glance, engine):
    names = {HERE, "s390x"}
    layers_of = {name: unique() for name in names}
    loaded = store.ensure(glance.add(multi_platform(layers_of)), 0)
    assert loaded.engine_id == "sha256:" + sha256(config(layers_of[HERE], HERE))
    assert engine.image(loaded.engine_id).architecture == HERE


def test_a_root_file_system_boots(store, glance, lab):
    busybox = next(data for name, data in _files(docker_archive()) if name == "bin/busybox")
    data = tar(
        [("bin/busybox", busybox), entry("bin/sh", b"2", "busybox"), ("sbin/init", b"#!/bin/sh\necho from $0\n")]
    )
    loaded = store.ensure(glance.add(COMPRESS["gzip"](data)), 0)
    server = lab.server(properties={"docker_command": '["/sbin/init"]'})
    lab.create(server, loaded.config, loaded.engine_id)
    lab.engine.start(server.container_name)
    assert "from /sbin/init" in lab.output(server)
    lab.engine.remove(server.container_name)


def _files(archive: bytes):
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as outer,
        tarfile.open(fileobj=outer.extractfile("layer.tar")) as layer,
    ):
        for member in layer:
            if file := layer.extractfile(member):
                yield member.name, file.read()


def test_an_image_cannot_take_a_tag_over(store, glance, engine):
    victim = store.ensure(glance.add(docker_save(unique())), 0).engine_id
    engine.tag_image(victim, "victim", "latest")
    image = glance.add(docker_save(unique(), tags=["victim:latest", f"{GLANCE_REPOSITORY}:x"]))
    loaded = store.ensure(image, 0)
    assert engine.image("victim:latest").id == victim != loaded.engine_id
    assert set(engine.image(loaded.engine_id).tags) == {
        f"{GLANCE_REPOSITORY}:{image.id}",
        f"{CHECKSUM_REPOSITORY}:{image.checksum}",
    }
    engine.remove_image("victim:latest")


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_leaves_the_engine_as_it_was(name, engine, tmp_path):
    glance = Glance()
    small = ImageStore(engine, glance.download, tmp_path, ImageLimits(max_unpacked_bytes=8 << 20))
    before = listing(engine)
    with pytest.raises(ImageRejected, match=HOSTILE[name][1]):
        small.ensure(glance.add(HOSTILE[name][0]()), 0)
    assert listing(engine) == before
    assert list(tmp_path.iterdir()) == []


def test_many_servers_share_one_fetch(store, glance, engine):
    image = glance.add(docker_save(unique()))
    glance.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(store.ensure, image, 0) for _ in range(8)]
        glance.gate.set()
        assert len({result.result().engine_id for result in waiting}) == 1
    assert glance.downloads == [image.id]


def test_different_images_are_fetched_side_by_side(store, glance, engine):
    first, second = (glance.add(docker_save(unique())) for _ in range(2))
    meeting = threading.Barrier(2, timeout=120)

    def download(image: Image):
        meeting.wait()  # breaks if one waits for the other's end
        return pieces(glance.data[image.id])

    store._download = download
    with ThreadPoolExecutor(2) as pool:
        assert (
            len({result.engine_id for result in pool.map(lambda image: store.ensure(image, 0), (first, second))}) == 2
        )


def test_what_the_engine_has_is_not_fetched_again(store, glance, engine):
    data = docker_save(unique())
    first = store.ensure(glance.add(data), 0)
    image = glance.add(data)
    assert store.ensure(image, 0).engine_id == first.engine_id
    assert store.ensure(image, 0).config == first.config
    assert len(glance.downloads) == 1
    store.remove(image.id)
    assert engine.image(first.engine_id), "another Glance image has the same content"


def test_a_tag_without_the_checksum_is_not_believed(store, glance, engine):
    other = store.ensure(glance.add(docker_save(unique())), 0).engine_id
    layers = unique()
    image = glance.add(docker_save(layers))
    engine.tag_image(other, GLANCE_REPOSITORY, image.id)
    assert store.ensure(image, 0).engine_id == "sha256:" + sha256(config(layers))
    assert engine.image(f"{GLANCE_REPOSITORY}:{image.id}").id == "sha256:" + sha256(config(layers))


def test_a_prune_leaves_the_image(store, glance, engine, private_engine):
    loaded = store.ensure(glance.add(docker_save(unique()), checksum=None), 0)
    subprocess.run(["docker", "-H", private_engine.url, "image", "prune", "-f"], check=True, capture_output=True)
    assert engine.image(loaded.engine_id)


def test_a_removed_image_is_gone_and_comes_back(store, glance, engine):
    image = glance.add(docker_save(unique()))
    loaded = store.ensure(image, 0)
    store.remove(image.id)
    store.remove(image.id)
    assert engine.image(loaded.engine_id) is None
    assert store.ensure(image, 0).engine_id == loaded.engine_id
    assert len(glance.downloads) == 2
    with pytest.raises(NotFound):
        engine.container("none")


def test_a_base_that_the_engine_has_is_not_sent_again(engine, store, glance, monkeypatch):
    base = tar([("usr/share/large", os.urandom(9 << 20))])
    sent = []

    def counted(chunks, deadline=None):
        sent.append(0)

        def pass_on():
            for chunk in chunks:
                sent[-1] += len(chunk)
                yield chunk

        return Engine.load_image(engine, pass_on(), deadline)

    monkeypatch.setattr(engine, "load_image", counted)
    store.ensure(glance.add(docker_save([base])), 0)
    layers = [base, *unique(), sample_layer(), base]
    above, again = layers[:3], layers
    expected = ["sha256:" + sha256(config(found)) for found in (above, again)]
    assert [store.ensure(glance.add(docker_save(found)), 0).engine_id for found in (above, again)] == expected
    assert [size > len(base) for size in sent] == [True, False, True], "the last has that layer above others, too"

    monkeypatch.setattr(engine, "layer_stacks", lambda _: {("sha256:" + sha256(gone),)})
    gone = tar([("usr/share/large", os.urandom(9 << 20))])
    loaded = store.ensure(glance.add(docker_save([gone])), 0)
    assert loaded.engine_id == "sha256:" + sha256(config([gone]))
    assert sent[3] < len(gone) < sent[4], "what somebody removed meanwhile was sent at the second try"
