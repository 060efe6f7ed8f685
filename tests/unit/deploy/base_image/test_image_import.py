# SPDX-License-Identifier: Apache-2.0
"""An import is done once, completed after a kill, and never leaves a half image under the name."""

from __future__ import annotations

import hashlib
import itertools
import json

import pytest

from dockstack.deploy.base_image import glance
from dockstack.deploy.base_image.glance import INTERIM, Upload, import_image
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


class Answer:
    def __init__(self, status: int, document=None) -> None:
        self.status_code = status
        self.text = json.dumps(document)
        self._document = document

    def json(self):
        return self._document


class FakeGlance:
    """The Image API v2 as an adapter, in memory."""

    def __init__(self) -> None:
        self.records: dict[str, dict] = {}
        self.uploads = 0
        self.refuse: dict[str, int] = {}
        self.corrupt = False
        self._numbers = itertools.count(1)

    def get(self, url, params=None):
        if params is None:
            return Answer(200, dict(self.records[url.rpartition("/")[2]]))
        shown = [r for r in self.records.values() if r["name"] == params["name"] and not r["os_hidden"]]
        return Answer(200, {"images": [dict(record) for record in shown]})

    def post(self, url, json):
        if "post" in self.refuse:
            return Answer(self.refuse["post"])
        number = f"{next(self._numbers):08d}-0000"
        defaults = {
            "id": number,
            "status": "queued",
            "size": None,
            "os_hidden": False,
            "created_at": "2026-01-02T00:00:00Z",
        }
        self.records[number] = defaults | json
        return Answer(201, self.records[number])

    def put(self, url, data, headers):
        if "put" in self.refuse:
            return Answer(self.refuse["put"])
        self.uploads += 1
        content = b"".join(data)
        assert len(content) == len(data)
        content = content[1:] if self.corrupt else content
        record = self.records[url.split("/")[2]]
        digest = hashlib.sha512(content).hexdigest()
        record.update(status="active", size=len(content), os_hash_algo="sha512", os_hash_value=digest)
        return Answer(204)

    def patch(self, url, json, headers):
        if "patch" in self.refuse:
            return Answer(self.refuse["patch"])
        for change in json:
            self.records[url.rpartition("/")[2]][change["path"][1:]] = change["value"]
        return Answer(200)

    def delete(self, url):
        return Answer(204 if self.records.pop(url.rpartition("/")[2], None) else 404)


class Connection:
    current_project_id = "project"

    def __init__(self) -> None:
        self.image = FakeGlance()


@pytest.fixture
def connection():
    return Connection()


def upload(data: bytes = b"content", **more) -> Upload:
    return Upload(
        **({"name": "one", "size": len(data), "open": lambda: [data[:2], data[2:]], "architecture": "amd64"} | more)
    )


def test_the_record_says_what_the_scheduler_needs(connection):
    seen = []
    done = import_image(connection, upload(public=True), lambda sent, total: seen.append((sent, total)))
    record = connection.image.records[done.id]
    wanted = {
        "name": "one",
        "status": "active",
        "container_format": "docker",
        "disk_format": "raw",
        "visibility": "public",
        "img_hv_type": "docker",
        "hw_vm_mode": "exe",
        "hw_architecture": "x86_64",
    }
    assert {key: record[key] for key in wanted} == wanted
    assert seen == [(2, 7), (7, 7)]


def test_the_same_content_is_sent_once(connection):
    first = import_image(connection, upload())
    second = import_image(connection, upload())
    assert (first.uploaded, second.uploaded, first.id) == (True, False, second.id)
    assert connection.image.uploads == 1


def test_other_content_replaces_and_hides(connection):
    first = import_image(connection, upload())
    second = import_image(connection, upload(b"other content"))
    assert second.replaced == (first.id,)
    assert connection.image.records[first.id]["name"] == f"one.2026-01-02.{first.id[:8]}"
    assert connection.image.records[first.id]["os_hidden"]
    assert connection.image.records[second.id]["name"] == "one"


def test_an_alias_is_the_same_image_and_says_of_which(connection):
    first = import_image(connection, upload(public=True))
    second = import_image(connection, glance.alias(upload(public=True), "cirros-1-disk"))
    records = connection.image.records
    assert first.id != second.id
    assert records[second.id]["description"] == "This is one under another name."
    same = ("os_hash_value", "visibility", "container_format", "hw_architecture")
    assert [records[first.id][key] for key in same] == [records[second.id][key] for key in same]


@pytest.mark.parametrize("step", ["post", "put", "patch"])
def test_a_refusal_leaves_the_image_that_works(connection, step):
    first = import_image(connection, upload())
    connection.image.refuse[step] = 403
    with pytest.raises(DockstackError, match="403") as caught:
        import_image(connection, upload(b"other"))
    assert caught.value.resolution
    assert next(r["name"] for r in connection.image.records.values() if r["status"] == "active") == "one"
    connection.image.refuse.clear()
    second = import_image(connection, upload(b"other"))
    assert second.replaced == (first.id,)
    assert not [r for r in connection.image.records.values() if r["name"].endswith(INTERIM)]


def test_leftovers_of_a_killed_run_are_removed(connection):
    connection.image.post("/images", json={"name": "one" + INTERIM})
    import_image(connection, upload())
    assert [record["name"] for record in connection.image.records.values()] == ["one"]


def test_content_that_arrives_changed_is_not_offered(connection):
    connection.image.corrupt = True
    with pytest.raises(DockstackError, match="differently"):
        import_image(connection, upload())
    assert connection.image.records == {}


def test_a_file_is_read_in_pieces(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"z" * 3_000_000)
    described = glance.of_file(path, name="x")
    assert described.size == 3_000_000
    assert described.digest("sha256") == hashlib.sha256(path.read_bytes()).hexdigest()
