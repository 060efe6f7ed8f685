# SPDX-License-Identifier: Apache-2.0
"""Images as data: what is written is read again, and what is malformed is refused."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.oci.documents import (
    CONFIG_TYPE,
    Configuration,
    Descriptor,
    Digest,
    ImageRejected,
    Index,
    Layer,
    Manifest,
    Platform,
    Reference,
    go_architecture,
    hybrid_archive,
    shown,
)

pytestmark = pytest.mark.unit

AMD64 = Platform("linux", "amd64")
HEX = "a" * 64


def layer(data: bytes) -> Layer:
    return Layer(Digest.of(data), len(data), lambda: iter([data[:3], data[3:]]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", Reference("docker.io", "library/busybox", "latest")),
        ("library/busybox:1.36", Reference("docker.io", "library/busybox", "1.36")),
        ("localhost/x", Reference("localhost", "x", "latest")),
        ("host:5042/a/b_c/d--e:T.1", Reference("host:5042", "a/b_c/d--e", "T.1")),
        ("quay.io/a/b@sha256:" + HEX, Reference("quay.io", "a/b", None, Digest("sha256", HEX))),
        ("quay.io/a/b:1@sha256:" + HEX, Reference("quay.io", "a/b", "1", Digest("sha256", HEX))),
        ("[fd00::1]:5000/a", Reference("[fd00::1]:5000", "a", "latest")),
    ],
)
def test_references_are_read_as_docker_reads_them(text, expected):
    assert Reference.parse(text) == expected
    assert Reference.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "Upper", "a//b", "a:", "a@sha256:12", "a b", "http://x/y", "a:\n", "-a", "a" + ":t" * 2]
)
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(ImageRejected) as caught:
        Reference.parse(text)
    assert caught.value.resolution


@given(st.text())
def test_no_text_breaks_the_parsers(text):
    for parse in (Reference.parse, Digest.parse):
        try:
            parse(text)
        except ImageRejected:
            continue


@pytest.mark.parametrize(
    "text", [None, 5, "", "sha256:", "md5:" + "a" * 32, "sha256:" + "A" * 64, "sha256:" + "a" * 63]
)
def test_what_is_no_digest_is_refused(text):
    with pytest.raises(ImageRejected):
        Digest.parse(text)


def test_sha512_is_a_digest():
    assert Digest.parse(str(Digest.of(b"x", "sha512"))).path.startswith("blobs/sha512/")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x86_64", ("amd64", "")),
        ("aarch64", ("arm64", "")),
        ("amd64", ("amd64", "")),
        ("arm/v7", ("arm", "v7")),
        ("s390x", ("s390x", "")),
    ],
)
def test_architectures_have_one_name(name, expected):
    assert go_architecture(name) == expected


def test_manifests_and_indexes_survive_a_round_trip():
    config = Descriptor(CONFIG_TYPE, Digest.of(b"c"), 1)
    manifest = Manifest(config, (Descriptor("layer", Digest.of(b"l"), 5),))
    assert Manifest.parse(manifest.encode()) == manifest
    index = Index((Descriptor("m", Digest.of(b"m"), 7, Platform("linux", "arm", "v7")),))
    assert Index.parse(index.encode()) == index


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"layers": {}}',
        b'{"layers": [], "config": 1}',
        b'{"layers": [{"size": true}], "config": {}}',
        b"\xff",
    ],
)
def test_malformed_manifests_are_refused(data):
    with pytest.raises(ImageRejected):
        Manifest.parse(data)


def test_a_configuration_depends_on_its_arguments_alone():
    first, second = (Configuration.build(AMD64, [Digest.of(b"l")], {"Cmd": ["x"]}, "test") for _ in range(2))
    assert first == second
    assert first.process == {"Cmd": ["x"]}
    assert first.platform == AMD64


def test_the_hybrid_archive_is_a_layout_and_loads_into_docker():
    layers = [layer(b"first layer"), layer(b"second"), layer(b"first layer")]
    configuration = Configuration.build(AMD64, [item.diff_id for item in layers], {}, "test")
    data = b"".join(hybrid_archive(configuration, layers))
    assert data == b"".join(hybrid_archive(configuration, layers))
    assert len(data) % tarfile.BLOCKSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
        found = {name: archive.extractfile(name).read() for name in names}
    assert len(names) == len(set(names)), "a layer that occurs twice is written once"
    [docker] = json.loads(found["manifest.json"])
    assert docker["RepoTags"] is None
    assert found[docker["Config"]] == configuration.raw
    assert [found[name] for name in docker["Layers"]] == [b"first layer", b"second", b"first layer"]
    [pointer] = Index.parse(found["index.json"]).manifests
    manifest = Manifest.parse(found[pointer.digest.path])
    assert manifest.config.digest == configuration.digest
    for descriptor in (pointer, manifest.config, *manifest.layers):
        assert Digest.of(found[descriptor.digest.path]) == descriptor.digest
        assert len(found[descriptor.digest.path]) == descriptor.size


def test_a_layer_that_changes_is_noticed():
    bad = Layer(Digest.of(b"x"), 4, lambda: [b"abc"])
    with pytest.raises(ImageRejected, match="changed"):
        list(hybrid_archive(Configuration.build(AMD64, [bad.diff_id], {}, "test"), [bad]))


def test_strangers_text_is_short_and_printable():
    assert len(shown("x" * 1000)) == 80
    assert "\n" not in shown("a\nb\x1b[31m")
