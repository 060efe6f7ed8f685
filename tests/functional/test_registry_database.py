# SPDX-License-Identifier: Apache-2.0
"""The registry when its database dies at any step of a push: a real MariaDB, which is killed and comes again."""

from __future__ import annotations

import subprocess
import time
from types import SimpleNamespace

import pymysql
import pytest
import sqlalchemy as sa
from registry_user import MANIFEST, STEPS, User, at_step, digest, needs

from dockstack.oci.distribution.manifests import Pushed
from dockstack.oci.documents import Digest
from dockstack.registry import database as db
from dockstack.registry.configuration import Configuration
from dockstack.registry.service import Service

pytestmark = pytest.mark.functional
_SECONDS = 60


class MariaDB:
    """A server of the test's own, without accounts, at a socket."""

    def __init__(self, directory):
        self.socket = directory / "db.sock"
        self.data = directory / "db"
        self.data.mkdir()
        self.process = None
        self.start()
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE registry")
        self.process.terminate()  # the first pages of a new one are on the disk once it was shut down
        self.process.wait()
        self.start()
        self.url = f"mysql+pymysql://root@localhost/registry?unix_socket={self.socket}&charset=utf8mb4"

    def start(self):
        places = [f"--datadir={self.data}", f"--socket={self.socket}", f"--pid-file={self.data}/pid"]
        sizes = ["--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M"]
        alone = ["--user=root", "--skip-networking", "--skip-grant-tables", "--skip-log-bin"]
        command = ["/usr/sbin/mariadbd", "--no-defaults", *alone, *places, *sizes]
        with (self.data.parent / "db.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.connect().close()
            except pymysql.err.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError((self.data.parent / "db.log").read_text()[-2000:])

    def connect(self):
        return pymysql.connect(unix_socket=str(self.socket), user="root")

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The database."""
    made = MariaDB(tmp_path_factory.mktemp("db"))
    yield made
    made.kill()


@pytest.fixture(scope="module")
def beside(cloud, database, tmp_path_factory):
    """A registry of that database, and one who pushes there."""
    url = f"http://127.0.0.1:{cloud.another_port}"
    blobs = tmp_path_factory.mktemp("blobs")
    more = {"archive_url": url, "database": database.url, "directory": str(blobs)}
    cloud.start_another(cloud.another_port, url, **more)
    yield User(SimpleNamespace(url=url), cloud.alice)
    cloud.kill("another")


_QUICK = "Glance has the image"  # where the registry would not wait for a minute
_EVERY = [step if step == _QUICK else pytest.param(step, marks=pytest.mark.nightly) for step in STEPS]


@needs("mariadbd")
@pytest.mark.parametrize("step", _EVERY)
def test_a_push_whose_database_is_killed_is_whole_or_never_was(cloud, database, beside, name, step):
    former, content = beside.push(name, "1.0", "former"), beside.manifest(name, "killed")
    configuration = Configuration.read(str(cloud.directory / "another.conf"))
    service = Service(configuration)
    at_step(service, step, database.kill)
    try:
        caller = service.identity.known(cloud.token(cloud.alice))
        repository = service.repositories.own(caller, name)
        with pytest.raises(Exception):  # noqa: B017 - whatever the step makes of it; it is no answer of 201
            service.pushing.push(caller, repository, Pushed.parse(content, MANIFEST), "1.0")
        assert beside.get(name, "1.0").status_code == 503
    finally:
        database.start()
    assert beside.get(name, "1.0").content in (former, content), "the registry goes on by itself"
    service = Service(configuration)
    list(service.reaper.reap())
    with service.engine.connect() as connection:
        assert not connection.execute(sa.select(db.image.c.id).where(db.image.c.pending)).all()
    assert beside.get(name, "1.0").content == (content if step not in list(STEPS)[:3] else former)
    assert {image["status"] for image in cloud.images(cloud.alice, oci_repository=name)} == {"active"}
    assert len(cloud.images(cloud.alice, oci_repository=name, oci_tag="1.0")) == 1, "the former one is hidden"
    assert beside.put(name, "1.0", content).status_code == 201
    assert beside.get(name, "1.0").content == content


@needs("mariadbd")
def test_a_blob_whose_database_is_killed_when_it_has_its_place_is_finished_later(cloud, database, beside, name):
    data = b"the last layer" * 1000
    upload = beside.ask("POST", f"{name}/blobs/uploads/").headers["Location"]
    assert beside.ask("PATCH", upload, name, data=data).status_code == 202
    service = Service(Configuration.read(str(cloud.directory / "another.conf")))
    keep = service.store.keep

    def keep_and_kill(*arguments):
        keep(*arguments)
        database.kill()

    service.store.keep = keep_and_kill
    try:
        repository = service.repositories.own(service.identity.known(cloud.token(cloud.alice)), name)
        taken = service.uploads.take(repository, upload.rpartition("/")[2])
        with pytest.raises(sa.exc.OperationalError):
            service.uploads.finish(repository, taken, Digest.parse(digest(data)))
    finally:
        database.start()
    assert beside.ask("PUT", upload, name, params={"digest": digest(data)}).status_code == 201
    assert beside.ask("GET", f"{name}/blobs/{digest(data)}").content == data


@needs("mariadbd")
def test_a_blob_whose_database_is_killed_can_be_sent_to_its_end(database, beside, name):
    data = b"a layer" * 1000
    answer = beside.ask("POST", f"{name}/blobs/uploads/")
    upload = answer.headers["Location"]
    answer = beside.ask("PATCH", upload, name, data=data[:1000])
    assert answer.status_code == 202
    database.kill()
    try:
        assert beside.ask("PATCH", upload, name, data=data[1000:2000]).status_code == 503
        assert beside.ask("PUT", upload, name, params={"digest": digest(data)}).status_code == 503
    finally:
        database.start()
    sent = int(beside.ask("GET", upload, name).headers["Range"].partition("-")[2]) + 1
    assert sent in (1000, 2000)
    answer = beside.ask("PUT", upload, name, params={"digest": digest(data)}, data=data[sent:])
    assert answer.status_code == 201
    assert beside.ask("GET", f"{name}/blobs/{digest(data)}").content == data
