# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import tarfile

import pytest

import image_archives
from dockstack.oci.distribution.manifests import Pushed, archive, archive_size
from dockstack.oci.documents import Descriptor, Digest, ImageRejected
from dockstack.oci.normalise import normalise
from dockstack.oci.streams import ImageLimits
from dockstack.registry.properties import image_name, properties

pytestmark = pytest.mark.unit

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYERS = [image_archives.sample_layer("one"), image_archives.sample_layer("two")]
CONFIG = image_archives.config(LAYERS)
BLOBS = {Digest.of(data): data for data in (*LAYERS, CONFIG)}


def descriptor(data, kind):
    return {"mediaType": kind, "digest": str(Digest.of(data)), "size": len(data)}


def manifest(**more):
    config = descriptor(CONFIG, "application/vnd.oci.image.config.v1+json")
    layers = [descriptor(layer, LAYER) for layer in LAYERS]
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers, **more}).encode()


def written(parts):
    return b"".join(BLOBS[part.digest] if isinstance(part, Descriptor) else part for part in parts)


def test_an_archive_is_what_hosts_and_engines_load(tmp_path):
    pushed = Pushed.parse(manifest(), MANIFEST)
    data = written(archive(pushed, (), BLOBS.__contains__))
    assert len(data) == archive_size(archive(pushed, (), BLOBS.__contains__))
    with normalise([data], architecture="x86_64", limits=ImageLimits(), workspace=tmp_path) as checked:
        assert checked.engine_id == str(Digest.of(CONFIG))
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        (docker,) = json.load(opened.extractfile("manifest.json"))
    assert docker["RepoTags"] is None
    assert docker["Layers"] == [Digest.of(layer).path for layer in LAYERS]


def test_the_same_image_gives_the_same_bytes():
    pushed = Pushed.parse(manifest(), MANIFEST)
    first, second = (written(archive(pushed, (), BLOBS.__contains__)) for _ in range(2))
    assert first == second


def test_of_several_platforms_no_engine_is_offered_the_wrong_one():
    child = Pushed.parse(manifest(), MANIFEST)
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(manifest(), MANIFEST)]}
    root = Pushed.parse(json.dumps(index).encode(), INDEX)
    with tarfile.open(fileobj=io.BytesIO(written(archive(root, [child], BLOBS.__contains__)))) as opened:
        names = opened.getnames()
    assert "manifest.json" not in names
    assert {child.digest.path, root.digest.path} <= set(names)


def test_a_layer_that_may_not_be_distributed_is_not_asked_for():
    foreign = descriptor(b"elsewhere", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    pushed = Pushed.parse(manifest(layers=[descriptor(LAYERS[0], LAYER), foreign]), MANIFEST)
    assert str(Digest.of(b"elsewhere")) not in pushed.references
    assert not pushed.bootable


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", MANIFEST),
        (b"[]", MANIFEST),
        (b"\xff\xfe", MANIFEST),
        (b"{" * 100_000, MANIFEST),
        (manifest(), INDEX),
        (manifest(), "application/vnd.docker.distribution.manifest.v1+json"),
        (manifest(config=None), MANIFEST),
        (manifest(layers={}), MANIFEST),
        (manifest(layers=[1]), MANIFEST),
        (manifest(subject=[1]), MANIFEST),
        (manifest(config={"digest": "sha256:short", "size": 1}), MANIFEST),
        (manifest(config={"digest": str(Digest.of(b"")), "size": -1}), MANIFEST),
    ],
)
def test_what_is_no_manifest_is_refused(content, kind):
    with pytest.raises(ImageRejected):
        Pushed.parse(content, kind)


def test_an_artifact_is_hidden_and_is_no_image_for_servers():
    said = properties(Pushed.parse(manifest(artifactType="text/x"), MANIFEST), b"", "web", "1.0", "demo")
    assert said["os_hidden"] is True
    assert "img_hv_type" not in said


def test_an_image_says_what_it_is_and_whence_it_comes():
    pushed = Pushed.parse(manifest(), MANIFEST)
    said = properties(pushed, CONFIG, "web", "1.0", "demo")
    assert said == {
        "name": "web-1.0",
        "container_format": "docker",
        "disk_format": "raw",
        "os_hidden": False,
        "oci_digest": str(pushed.digest),
        "oci_media_type": MANIFEST,
        "oci_repository": "demo/web",
        "oci_tag": "1.0",
        "oci_config_digest": str(Digest.of(CONFIG)),
        "img_hv_type": "docker",
        "hw_vm_mode": "exe",
        "hw_architecture": "x86_64",
    }


@pytest.mark.parametrize(
    ("tag", "name"), [("latest", "web"), ("1.0", "web-1.0"), ("", f"web@{Digest.of(b'x').hex[:12]}")]
)
def test_names(tag, name):
    assert image_name("web", tag, Digest.of(b"x")) == name
    assert len(image_name("w" * 300, tag, Digest.of(b"x"))) <= 255
