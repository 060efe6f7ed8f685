# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a private engine, a tiny image, servers that clean up after themselves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from private_engine import PrivateEngine, remove_leftovers, remove_namespaces, uuid_prefix
from server_lab import Lab, docker_archive

from dockstack.compute import privileged
from dockstack.compute.engine import Engine
from dockstack.compute.privileged import subvolumes

ANSWER_SECONDS = 180  # what one call may need on a machine with other work


def pytest_collection_modifyitems(items) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.docker)


@pytest.fixture(scope="session", autouse=True)
def in_process():
    """Run root's part in this process: the tests are root already."""
    privileged.context.set_client_mode(False)
    privileged.attaching.set_client_mode(False)
    privileged.copying.set_client_mode(False)


@pytest.fixture(scope="session")
def private_engine():
    assert os.geteuid() == 0, "these tests need root"
    assert shutil.which("dockerd"), "these tests need an engine: apt-get install docker.io"
    remove_leftovers()
    engine = PrivateEngine()
    engine.install()
    try:
        engine.start()
        yield engine
    finally:
        engine.clean()
        remove_namespaces(uuid_prefix())


@pytest.fixture(scope="session")
def sized_engine(private_engine):
    """An engine whose storage holds servers to their disks; the other one has removed what killed runs left."""
    assert shutil.which("mkfs.btrfs"), "these tests need btrfs: apt-get install btrfs-progs"
    engine = PrivateEngine("btrfs", btrfs="6G")
    engine.install()
    try:
        engine.start()
        subvolumes.enable_quotas(str(engine.directory / "data"))
        yield engine
    finally:
        engine.clean()


@pytest.fixture
def sized_lab(sized_engine):
    engine = Engine(sized_engine.url, ANSWER_SECONDS)
    lab = Lab(engine, sized_engine, engine.load_image([docker_archive()])[0])
    yield lab
    lab.destroy()


@pytest.fixture
def engine(private_engine):
    if not private_engine.answers():  # an earlier test killed it and failed
        private_engine.start()
    return Engine(private_engine.url, ANSWER_SECONDS)


@pytest.fixture
def image_id(engine) -> str:
    """A root file system of one static busybox; other tests may have removed it."""
    return engine.load_image([docker_archive()])[0]


@pytest.fixture
def lab(engine, private_engine, image_id):
    lab = Lab(engine, private_engine, image_id)
    yield lab
    if not private_engine.answers():
        private_engine.start()
    lab.destroy()
