# SPDX-License-Identifier: Apache-2.0
"""The registry when something dies, and its reaper: what was answered is there, and nothing is half there."""

from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from registry_user import MANIFEST, SECONDS, STEPS, at_step, digest, glance_image

from dockstack.oci.distribution.manifests import Pushed
from dockstack.oci.documents import Digest
from dockstack.registry import database as db
from dockstack.registry.configuration import Configuration
from dockstack.registry.service import Service

pytestmark = pytest.mark.functional


def die_while_pushing(cloud, caller, name, content, step):
    """Push in a process that ends at a step, without a chance to put anything in order."""
    service = Service(Configuration.read(str(cloud.directory / "registry.conf")))
    at_step(service, step, lambda: os._exit(9))
    repository = service.repositories.own(caller, name)
    service.pushing.push(caller, repository, Pushed.parse(content, MANIFEST), "1.0")


@pytest.mark.parametrize("step", STEPS)
def test_a_push_that_is_killed_is_whole_or_never_was(cloud, alice, service, name, step):
    former, content = alice.push(name, "1.0", "former"), alice.manifest(name, "killed")
    caller = service.identity.known(cloud.token(cloud.alice))
    process = multiprocessing.get_context("fork").Process(
        target=die_while_pushing, args=(cloud, caller, name, content, step)
    )
    process.start()
    process.join(SECONDS)
    process.kill()  # if it did not come to its end
    assert process.exitcode == 9
    assert alice.get(name, "1.0").content in (former, content)
    service = Service(Configuration.read(str(cloud.directory / "registry.conf")))  # as it starts again
    for line in service.reaper.reap():
        assert name not in line
    with service.engine.connect() as connection:
        assert not connection.execute(sa.select(db.image.c.id).where(db.image.c.pending)).all()
    pulled = alice.get(name, "1.0").content
    assert pulled == (content if step not in list(STEPS)[:3] else former)
    assert {image["status"] for image in cloud.images(cloud.alice, oci_repository=name)} == {"active"}
    assert len(cloud.images(cloud.alice, oci_repository=name, oci_tag="1.0")) == 1, "the former one is hidden"
    assert alice.put(name, "1.0", content).status_code == 201
    assert alice.get(name, "1.0").content == content
    assert len(cloud.images(cloud.alice, oci_repository=name, oci_tag="1.0")) >= 1


def die_while_finishing(cloud, caller, name, upload_id, wanted):
    """Finish an upload in a process that ends when its blob has its place, and the database does not know of it."""
    service = Service(Configuration.read(str(cloud.directory / "registry.conf")))
    repository, keep = service.repositories.own(caller, name), service.store.keep
    service.store.keep = lambda *arguments: (keep(*arguments), os._exit(9))
    service.uploads.finish(repository, service.uploads.take(repository, upload_id), wanted)


def test_an_upload_whose_end_was_killed_is_finished_by_asking_again(cloud, alice, service, name):
    data = os.urandom(1000)
    caller = service.identity.known(cloud.token(cloud.alice))
    upload = alice.ask("POST", f"{name}/blobs/uploads/").headers["Location"]
    assert alice.ask("PATCH", upload, name, data=data).status_code == 202
    process = multiprocessing.get_context("fork").Process(
        target=die_while_finishing,
        args=(cloud, caller, name, upload.rpartition("/")[2], Digest.parse(digest(data))),
    )
    process.start()
    process.join(SECONDS)
    process.kill()
    assert process.exitcode == 9
    assert service.store.has(Digest.parse(digest(data)))
    assert alice.ask("GET", f"{name}/blobs/{digest(data)}").status_code == 404
    assert alice.ask("GET", upload, name).headers["Range"] == f"0-{len(data) - 1}"
    assert alice.ask("PATCH", upload, name, data=b"more").status_code == 400, "it would grow a blob"
    assert alice.ask("PUT", upload, name, params={"digest": digest(data)}).status_code == 201
    assert alice.ask("GET", f"{name}/blobs/{digest(data)}").content == data
    assert alice.ask("GET", upload, name).status_code == 404


def test_glance_is_gone_at_a_push_and_comes_again(cloud, alice, name):
    content = alice.manifest(name)
    cloud.kill("glance")
    try:
        answer = alice.put(name, "1.0", content)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (503, "UNAVAILABLE")
    finally:
        cloud.start_glance()
    assert alice.put(name, "1.0", content).status_code == 201
    assert alice.get(name, "1.0").content == content


# -- the reaper --------------------------------------------------------------------------------------------------------


@contextmanager
def later(service, seconds, monkeypatch):
    """Let all that is here have been here for long."""
    whole = time.time
    monkeypatch.setattr(time, "time", lambda: whole() + seconds)
    yield
    monkeypatch.setattr(time, "time", whole)


def test_the_reaper_tells_and_then_frees_what_nobody_holds(cloud, alice, service, name, monkeypatch):
    content = alice.push(name, "1.0", "to be reaped")
    kept = alice.push(f"{name}-kept", "1.0", "to be kept")
    layer = service.store.path(Pushed.parse(content, MANIFEST).blobs[1].digest)
    image = glance_image(cloud, name)["id"]
    cloud.glance("DELETE", f"images/{image}", cloud.alice)
    told = list(service.reaper.reap(dry_run=True))
    told += (cloud.directory / "registry.log").read_text().splitlines()  # its own round may have come first
    assert any(image in line and "deleted in Glance" in line for line in told), told
    for days in (0, 2, 4, 6):
        assert layer.exists()
        with later(service, days * 86400, monkeypatch):
            list(service.reaper.reap())
    assert not layer.exists()
    assert not [line for line in service.reaper.reap(dry_run=True) if name in line]
    assert alice.get(f"{name}-kept", "1.0").content == kept
    assert service.store.path(Pushed.parse(kept, MANIFEST).blobs[1].digest).exists()
