# SPDX-License-Identifier: Apache-2.0
"""The registry beside the real Glance: what is pushed is an image, what is in Glance can be pulled, who may what."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from registry_user import INDEX, MANIFEST, MAX_UPLOADS, SECONDS, User, digest, glance_image

import image_archives
from dockstack.oci.normalise import normalise
from dockstack.oci.streams import ImageLimits

pytestmark = pytest.mark.functional


def test_what_is_pushed_is_an_image_that_boots(cloud, alice, name, tmp_path):
    content = alice.push(name, "1.0")
    image = glance_image(cloud, name)
    assert (image["status"], image["owner"]) == ("active", cloud.alice.project_id)
    assert (image["name"], image["os_hidden"]) == (f"{name.partition('/')[2]}-1.0", False)
    assert (image["img_hv_type"], image["hw_architecture"]) == ("docker", "x86_64")
    assert image["oci_digest"] == digest(content)
    data = cloud.glance("GET", f"images/{image['id']}/file", cloud.alice).content
    assert len(data) == image["size"]
    configuration = json.loads(content)["config"]["digest"]
    with normalise([data], architecture="x86_64", limits=ImageLimits(), workspace=tmp_path) as checked:
        assert checked.engine_id == configuration


def test_an_image_of_the_tag_latest_has_the_repositorys_name(cloud, alice, name):
    alice.push(name, "latest")
    assert glance_image(cloud, name, "latest")["name"] == name.partition("/")[2]


def test_glance_says_who_may_pull(cloud, alice, bob, nobody, name):
    content = alice.push(name, "1.0")
    layer = json.loads(content)["layers"][0]["digest"]
    image = glance_image(cloud, name)["id"]
    path = f"{name}/blobs/{layer}"

    def seen(user):
        return user.get(name, "1.0").status_code, user.ask("GET", path).status_code

    assert seen(alice) == (200, 200)
    assert seen(bob) == (404, 404)
    assert seen(nobody) == (404, 404)
    cloud.glance("POST", f"images/{image}/members", cloud.alice, json={"member": cloud.bob.project_id})
    assert seen(bob) == (200, 200)
    assert seen(nobody) == (404, 404)
    set_visibility(cloud, image, "public")
    assert seen(nobody) == (200, 200)
    assert cloud.glance("POST", f"images/{image}/actions/deactivate", cloud.service).status_code == 204
    assert [user.get(name, "1.0").status_code for user in (alice, bob, nobody)] == [403, 403, 403]
    assert [user.ask("GET", path).status_code for user in (alice, bob, nobody)] == [404, 403, 403]
    mount = alice.ask("POST", f"{name}-two/blobs/uploads/", params={"mount": layer, "from": name})
    assert (mount.status_code, alice.ask("DELETE", mount.headers["Location"], f"{name}-two").status_code) == (202, 204)
    cloud.glance("POST", f"images/{image}/actions/reactivate", cloud.service)
    cloud.glance("DELETE", f"images/{image}", cloud.alice)
    assert [user.get(name, "1.0").status_code for user in (alice, bob, nobody)] == [404, 404, 404]


def set_visibility(cloud, image, visibility):
    patch = [{"op": "replace", "path": "/visibility", "value": visibility}]
    headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    assert cloud.glance("PATCH", f"images/{image}", cloud.service, json=patch, headers=headers).ok


def test_one_pushes_to_ones_own_project_and_readers_push_nowhere(cloud, bob, name):
    for user in (bob, User(cloud, cloud.reader), User(cloud, None)):
        answer = user.ask("POST", f"{name}/blobs/uploads/")
        assert answer.status_code == 401
        assert "Bearer realm=" in answer.headers["WWW-Authenticate"]


def test_wrong_credentials_get_no_token(cloud):
    for user, secret in (("alice@Default/demo", "wrong"), ("alice", "alice-password"), ("token", "made-up")):
        assert requests.get(f"{cloud.url}/token", auth=(user, secret), timeout=SECONDS).status_code == 401


def test_each_way_to_say_who_one_is(cloud):
    alice = cloud.alice
    ways = [(alice.credential, alice.password), ("alice@Default/demo", alice.password), ("token", cloud.token(alice))]
    for user, secret in ways:
        answer = requests.get(f"{cloud.url}/token", auth=(user, secret), timeout=SECONDS)
        assert answer.status_code == 200, user
        form = {"grant_type": "password", "username": user, "password": secret}
        assert requests.post(f"{cloud.url}/token", data=form, timeout=SECONDS).status_code == 200, user
    assert alice.password not in answer.text


def test_a_token_hides_keystones(cloud, alice, name):
    shown = alice.token(name)
    keystone = {token for token, person in cloud.keystone.tokens.items() if person is cloud.alice}
    assert keystone
    assert not [token for token in keystone if token in shown]


def test_nobody_learns_of_blobs_that_others_have(alice, bob, name):
    blob = alice.send(name, b"only alice has this")["digest"]
    bobs = "other/here"
    assert bob.ask("HEAD", f"{bobs}/blobs/{blob}").status_code == 404
    for source in (name, ""):
        query = {"mount": blob, **({"from": source} if source else {})}
        begun = bob.ask("POST", f"{bobs}/blobs/uploads/", params=query)
        assert begun.status_code == 202
        bob.ask("DELETE", begun.headers["Location"], bobs)
    assert bob.put(bobs, "x", alice.manifest(name)).status_code == 404


def test_a_blob_is_mounted_from_where_one_may_read_it(alice, name):
    blob = alice.send(name, b"mount me")["digest"]
    query = {"mount": blob, "from": name}
    assert alice.ask("POST", f"{name}-two/blobs/uploads/", params=query).status_code == 201
    assert alice.ask("GET", f"{name}-two/blobs/{blob}").content == b"mount me"


def test_a_blob_is_read_in_parts(alice, name):
    path = f"{name}/blobs/{alice.send(name, b'0123456789')['digest']}"
    for asked, status, content in (
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=10-", 416, b""),
        ("bytes=5-2", 200, b"0123456789"),
    ):
        answer = alice.ask("GET", path, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (status, content), asked


def test_an_upload_goes_on_after_a_kill(cloud, alice, name):
    data = os.urandom(3 << 20)
    place = alice.ask("POST", f"{name}/blobs/uploads/").headers["Location"]
    first = alice.ask("PATCH", place, name, data=data[: 1 << 20], headers={"Content-Range": f"0-{(1 << 20) - 1}"})
    assert (first.status_code, first.headers["Range"]) == (202, f"0-{(1 << 20) - 1}")
    cloud.kill("registry")
    cloud.start_registry()
    told = alice.ask("GET", place, name)
    assert (told.status_code, told.headers["Range"]) == (204, f"0-{(1 << 20) - 1}")
    wrong = alice.ask(
        "PATCH", place, name, data=data[2 << 20 :], headers={"Content-Range": f"{2 << 20}-{(3 << 20) - 1}"}
    )
    assert wrong.status_code == 416
    right = {"Content-Range": f"{1 << 20}-{(3 << 20) - 1}"}
    assert alice.ask("PATCH", place, name, data=data[1 << 20 :], headers=right).status_code == 202
    assert alice.ask("PUT", place, name, params={"digest": digest(data)}).status_code == 201
    assert alice.ask("GET", f"{name}/blobs/{digest(data)}").content == data


def test_a_wrong_digest_leaves_nothing(alice, name):
    answer = alice.ask("POST", f"{name}/blobs/uploads/", params={"digest": digest(b"other")}, data=b"this")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert alice.ask("HEAD", f"{name}/blobs/{digest(b'other')}").status_code == 404


def test_uploads_of_a_project_are_bounded(bob):
    places = [bob.ask("POST", "other/many/blobs/uploads/") for _ in range(MAX_UPLOADS + 1)]
    assert [place.status_code for place in places] == [202] * MAX_UPLOADS + [429]
    for place in places[:MAX_UPLOADS]:
        assert bob.ask("DELETE", place.headers["Location"], "other/many").status_code == 204
    assert bob.ask("GET", places[0].headers["Location"], "other/many").status_code == 404


def test_of_two_who_push_one_tag_both_are_whole_and_one_has_it(cloud, alice, name):
    contents = [alice.manifest(name, text) for text in ("one", "two")]
    with ThreadPoolExecutor(2) as both:
        answers = list(both.map(lambda content: alice.put(name, "1.0", content), contents))
    assert [answer.status_code for answer in answers] == [201, 201]
    tagged = alice.get(name, "1.0").content
    assert tagged in contents
    assert [alice.get(name, digest(content)).content for content in contents] == contents
    assert glance_image(cloud, name)["oci_digest"] == digest(tagged)


def test_a_moved_tag_is_a_new_image_and_the_former_one_is_hidden(cloud, alice, name):
    first, second = alice.push(name, "1.0", "one"), alice.push(name, "1.0", "two")
    assert glance_image(cloud, name)["oci_digest"] == digest(second)
    (hidden,) = cloud.images(cloud.alice, oci_repository=name, os_hidden="true")
    assert hidden["oci_digest"] == digest(first)
    assert alice.get(name, digest(first)).content == first
    assert alice.get(name, "1.0").content == second
    assert alice.put(name, "1.0", second).status_code == 201
    assert len(cloud.images(cloud.alice, oci_repository=name)) == 1, "a push that comes again makes no other image"


def test_a_tag_that_moves_there_and_back_leaves_what_servers_were_booted_from(cloud, alice, name):
    first, second = alice.push(name, "1.0", "one"), alice.manifest(name, "two")
    booted = glance_image(cloud, name)["id"]
    assert alice.put(name, "1.0", second).status_code == 201
    assert alice.put(name, "1.0", first).status_code == 201
    assert glance_image(cloud, name)["oci_digest"] == digest(first)
    assert cloud.glance("GET", f"images/{booted}", cloud.alice).json()["os_hidden"] is True


def test_an_index_is_one_image_and_what_it_holds_needs_none(cloud, alice, name):
    children = [alice.manifest(name, machine, machine) for machine in ("amd64", "arm64")]
    for child in children:
        assert alice.put(name, digest(child), child).status_code == 201
    entries = [
        {
            "mediaType": MANIFEST,
            "digest": digest(child),
            "size": len(child),
            "platform": {"os": "linux", "architecture": machine},
        }
        for child, machine in zip(children, ("amd64", "arm64"), strict=True)
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    assert alice.put(name, "multi", index, INDEX).status_code == 201
    assert not cloud.images(cloud.alice, oci_repository=name, os_hidden="true")
    assert alice.get(name, digest(children[0])).content == children[0]
    assert alice.ask("DELETE", f"{name}/manifests/{digest(children[0])}").status_code == 405
    image = glance_image(cloud, name, "multi")
    data = cloud.glance("GET", f"images/{image['id']}/file", cloud.alice).content
    with normalise([data], architecture="aarch64", limits=ImageLimits(), workspace=cloud.directory) as checked:
        assert checked.engine_id == json.loads(children[1])["config"]["digest"]


def test_what_refers_to_an_image_is_listed(alice, name):
    subject = alice.push(name, "1.0")
    empty = alice.send(name, b"{}")
    said = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/spdx+json",
        "config": {**empty, "mediaType": "application/vnd.oci.empty.v1+json"},
        "layers": [empty],
        "subject": {"mediaType": MANIFEST, "digest": digest(subject), "size": len(subject)},
        "annotations": {"what": "sbom"},
    }
    content = json.dumps(said).encode()
    answer = alice.put(name, digest(content), content)
    assert (answer.status_code, answer.headers["OCI-Subject"]) == (201, digest(subject))
    (found,) = alice.ask("GET", f"{name}/referrers/{digest(subject)}").json()["manifests"]
    assert (found["digest"], found["artifactType"]) == (digest(content), "application/spdx+json")
    assert found["annotations"] == {"what": "sbom"}
    other = alice.ask("GET", f"{name}/referrers/{digest(subject)}", params={"artifactType": "x"})
    assert (other.json()["manifests"], other.headers["OCI-Filters-Applied"]) == ([], "artifactType")


def test_tags_come_in_pages_and_go(cloud, alice, name):
    content = alice.push(name, "a")
    for tag in ("B", "c"):
        assert alice.put(name, tag, content).status_code == 201
    first = alice.ask("GET", f"{name}/tags/list", params={"n": "2"})
    assert first.json() == {"name": name, "tags": ["B", "a"]}
    assert 'rel="next"' in first.headers["Link"]
    assert alice.ask("GET", f"{name}/tags/list", params={"last": "a"}).json()["tags"] == ["c"]
    assert alice.ask("DELETE", f"{name}/manifests/a").status_code == 202
    assert alice.ask("GET", f"{name}/tags/list").json()["tags"] == ["B", "c"]
    assert alice.ask("DELETE", f"{name}/manifests/{digest(content)}").status_code == 202
    assert alice.get(name, digest(content)).status_code == 404
    assert not cloud.images(cloud.alice, oci_repository=name)


def test_a_manifest_needs_its_blobs(alice, name):
    content = alice.manifest(name).replace(b"sha256:", b"sha256:", 1)
    said = json.loads(content)
    said["layers"][0]["digest"] = digest(b"not here")
    answer = alice.put(name, "1.0", json.dumps(said).encode())
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_BLOB_UNKNOWN")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schemaVersion":2,"config":{},"layers":[]}', b"\xff"])
def test_what_is_no_manifest_is_refused(alice, name, content):
    assert alice.put(name, "1.0", content).json()["errors"][0]["code"] == "MANIFEST_INVALID"


def test_the_quota_of_the_project_holds(cloud, bob):
    content = bob.manifest("other/quota", "x")
    cloud.keystone.limit_mib = 0
    try:
        answer = bob.put("other/quota", "1.0", content)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, "DENIED")
        assert "quota" in answer.json()["errors"][0]["message"]
        assert bob.get("other/quota", "1.0").status_code == 404
        assert not cloud.images(cloud.bob, oci_repository="other/quota")
    finally:
        cloud.keystone.limit_mib = 1024
    assert bob.put("other/quota", "1.0", content).status_code == 201


def test_the_archives_are_for_who_has_the_signature(cloud, alice, name):
    alice.push(name, "1.0")
    image = glance_image(cloud, name)["id"]
    for signature in ("0" * 64, "x"):
        assert requests.get(f"{cloud.url}/archives/{image}/{signature}", timeout=SECONDS).status_code == 403


# -- images that Glance has as bytes -----------------------------------------------------------------------------------


def uploaded(cloud, data, name, **more):
    values = {"name": name, "container_format": "docker", "disk_format": "raw", **more}
    image = cloud.glance("POST", "images", cloud.alice, json=values).json()["id"]
    headers = {"Content-Type": "application/octet-stream"}
    assert cloud.glance("PUT", f"images/{image}/file", cloud.alice, data=data, headers=headers).ok
    return image


@pytest.mark.parametrize("tag", ["latest", "7"])
def test_what_is_in_glance_can_be_pulled_by_its_name_and_its_id(cloud, alice, bob, name, tag):
    inner = name.partition("/")[2]
    layer = image_archives.sample_layer("snapshot")
    data = image_archives.oci_archive([layer])
    image = uploaded(cloud, data, inner if tag == "latest" else f"{inner}:{tag}")
    assert bob.get(name, tag).status_code == 404
    answer = alice.get(name, tag)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["layers"]
    assert alice.ask("GET", f"{name}/blobs/{found['digest']}").content == layer
    assert bob.ask("GET", f"{name}/blobs/{found['digest']}").status_code == 404
    by_id = alice.get(f"demo/{image}", "latest")
    assert by_id.content == answer.content
    cloud.glance("DELETE", f"images/{image}", cloud.alice)
    assert alice.get(name, tag).status_code == 404
    assert alice.get(name, digest(answer.content)).status_code == 404


def test_what_was_pushed_can_be_pulled_by_its_id(cloud, alice, name):
    content = alice.push(name, "1.0")
    assert alice.get(f"demo/{glance_image(cloud, name)['id']}", "latest").content == content


def test_what_is_no_image_for_servers_is_told(cloud, alice, name):
    uploaded(cloud, b"x" * 2048, name.partition("/")[2])
    answer = alice.get(name, "latest")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")
