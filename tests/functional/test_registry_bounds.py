# SPDX-License-Identifier: Apache-2.0
"""What a project may have in the registry besides its quota of images; a database, and nobody beside the registry."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from registry_user import INDEX, MANIFEST, digest

from dockstack.oci.distribution.manifests import Pushed
from dockstack.registry import adoption, pushing
from dockstack.registry import database as db
from dockstack.registry.configuration import Configuration
from dockstack.registry.faults import CloudSilent, Denied, ManifestInvalid
from dockstack.registry.service import Service

pytestmark = pytest.mark.functional

NOWHERE = "http://127.0.0.1:9"
CONFIGURATION, LAYER = b"{}", b"layer" * 10
SIZE = len(CONFIGURATION) + len(LAYER)


@pytest.fixture
def alone(tmp_path):
    """A registry without a cloud."""
    return Service(
        Configuration(
            database=f"sqlite:///{tmp_path}/registry.sqlite",
            directory=tmp_path / "registry",
            secret="x",
            identity_url=NOWHERE,
            image_url=NOWHERE,
            password="x",
            max_unfinished_bytes=SIZE,
        )
    )


@pytest.fixture
def repository(alone):
    """A repository with the blobs of one image."""
    made = alone.repositories.ensure("p", "demo", "web")
    for data in (CONFIGURATION, LAYER):
        upload = alone.uploads.take(made, alone.uploads.start(made))
        upload.write(data)
        alone.uploads.finish(made, upload, Pushed.parse(manifest(), MANIFEST).blobs[data == LAYER].digest)
        alone.uploads.release(upload)
    return made


def manifest():
    def said(data):
        return {"mediaType": "application/octet-stream", "digest": digest(data), "size": len(data)}

    return json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": said(CONFIGURATION), "layers": [said(LAYER)]}
    ).encode()


def index_of(content):
    entry = {"mediaType": MANIFEST, "digest": digest(content), "size": len(content)}
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()


def keep(alone, repository, content, kind=MANIFEST):
    with alone.engine.begin() as connection:
        return repository.keep(connection, Pushed.parse(content, kind))


def add_image(alone, manifest_id, *, adopted=False):
    values = {"id": "i", "manifest_id": manifest_id, "tag": "", "pending": False, "adopted": adopted}
    with alone.engine.begin() as connection:
        connection.execute(db.image.insert().values(**values, created=time.time()))


@pytest.mark.parametrize("through_index", [False, True])
def test_what_no_image_holds_is_unfinished(alone, repository, through_index):
    assert alone.uploads.unfinished("p") == SIZE
    manifest_id = keep(alone, repository, manifest())
    if through_index:
        manifest_id = keep(alone, repository, index_of(manifest()), INDEX)
    assert alone.uploads.unfinished("p") == SIZE, "a manifest whose image was deleted frees no room"
    add_image(alone, manifest_id)
    assert alone.uploads.unfinished("p") == 0


def test_copies_of_a_projects_images_are_bounded(alone, repository):
    assert alone.adoption._left("p") == SIZE
    add_image(alone, keep(alone, repository, manifest()), adopted=True)
    with pytest.raises(Denied):
        alone.adoption._left("p")
    assert alone.adoption._left("other") == SIZE


def test_a_slow_copy_keeps_its_own_project_waiting_and_no_other(alone, monkeypatch):
    begun, may_end = threading.Event(), threading.Event()

    def read(caller, repository, image):
        if image["owner"] == "slow":
            begun.set()
            assert may_end.wait(60)
        return image["owner"]

    monkeypatch.setattr(
        alone.adoption, "_find", lambda project, *_: {"id": project, "owner": project, "container_format": "docker"}
    )
    monkeypatch.setattr(alone.repositories, "sees_image", lambda *_: True)
    monkeypatch.setattr(alone.adoption, "_read", read)
    with ThreadPoolExecutor(1) as other:
        slow = other.submit(alone.adoption.adopt, "slow", "slow/web", "latest")
        try:
            assert begun.wait(60)
            with pytest.raises(CloudSilent, match="of the project is being copied"):
                alone.adoption.adopt("slow", "slow/web", "latest")
            assert alone.adoption.adopt("quick", "quick/web", "latest") == "quick"
            monkeypatch.setattr(adoption, "_AT_ONCE", 1)
            with pytest.raises(CloudSilent, match="several projects"):
                alone.adoption.adopt("quick", "quick/web", "latest")
        finally:
            may_end.set()
        assert slow.result() == "slow"
    assert alone.adoption.adopt("slow", "slow/web", "latest") == "slow"


def test_an_index_leads_to_no_more_than_memory_is_for(alone, repository, monkeypatch):
    keep(alone, repository, manifest())
    index = Pushed.parse(index_of(manifest()), INDEX)
    assert [found.content for found in alone.pushing._below(repository, index)] == [manifest()]
    monkeypatch.setattr(pushing, "_MAX_MANIFESTS", len(manifest()) - 1)
    with pytest.raises(ManifestInvalid):
        alone.pushing._below(repository, index)
