# SPDX-License-Identifier: Apache-2.0
"""Every kind of archive becomes the same one, and hostile ones leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import tracemalloc
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockstack.errors import DockstackError
from dockstack.oci.documents import Configuration
from dockstack.oci.normalise import ImageLimits, ImageRejected, check, normalise
from dockstack.oci.process import ImageConfig, image_config
from dockstack.oci.spool import Spool, open_spools, read_slice
from image_archives import (
    COMPRESS,
    HOSTILE,
    config,
    descriptor,
    docker_save,
    entry,
    files,
    multi_platform,
    oci_archive,
    oci_image,
    oci_layout,
    pieces,
    rootfs,
    sample_layer,
    sha256,
    tar,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

LIMITS = ImageLimits(max_unpacked_bytes=8 << 20, max_spooled_bytes=512 << 20)
LAYERS = [sample_layer("one"), sample_layer("two")]


def run(
    data: bytes, workspace: Path, *, limits: ImageLimits = LIMITS, architecture: str = "x86_64", piece: int = 65536
):
    """Normalise and return the engine's id, the configuration and the archive that the engine would get."""
    with normalise(pieces(data, piece), architecture=architecture, limits=limits, workspace=workspace) as image:
        assert list(workspace.iterdir()) == [], "the spool has a name"
        return image.engine_id, image.config, b"".join(image.stream())


@pytest.mark.parametrize("outer", COMPRESS)
@pytest.mark.parametrize("inner", COMPRESS)
@pytest.mark.parametrize("kind", [docker_save, oci_archive])
def test_every_kind_becomes_the_same_archive(kind, outer, inner, tmp_path):
    data = COMPRESS[outer](kind(LAYERS, compress=inner))
    engine_id, said, archive = run(data, tmp_path)
    assert engine_id == "sha256:" + sha256(config(LAYERS))
    assert said == ImageConfig(env={"A": "b=c", "PATH": "/bin"}, command=("/bin/true",))
    assert archive == run(docker_save(LAYERS, tags=["victim:latest"]), tmp_path)[2]
    found = files(archive)
    assert json.loads(found["manifest.json"])[0]["RepoTags"] is None
    assert [found[name] for name in json.loads(found["manifest.json"])[0]["Layers"]] == LAYERS


def test_normalising_twice_changes_nothing(tmp_path):
    once = run(oci_archive(LAYERS), tmp_path)[2]
    assert run(once, tmp_path)[2] == once


@pytest.mark.parametrize("piece", [1, 7, 511, 513, 1 << 22])
def test_the_size_of_the_pieces_does_not_matter(piece, tmp_path):
    data = COMPRESS["gzip"](docker_save([sample_layer()], compress="zstd"))
    assert run(data, tmp_path, piece=piece)[0] == "sha256:" + sha256(config([sample_layer()]))


@pytest.mark.parametrize(("machine", "name"), [("x86_64", "amd64"), ("aarch64", "arm64")])
def test_an_index_is_resolved_for_the_hosts_architecture(machine, name, tmp_path):
    layers_of = {"amd64": [sample_layer("amd64")], "arm64": [sample_layer("arm64")]}
    engine_id, _, archive = run(multi_platform(layers_of), tmp_path, architecture=machine)
    assert engine_id == "sha256:" + sha256(config(layers_of[name], name))
    assert layers_of[name][0] in files(archive).values()
    assert sum(value in files(archive).values() for (value,) in layers_of.values()) == 1


def test_blobs_of_other_platforms_may_be_missing(tmp_path):
    mine, blobs = oci_image([sample_layer()])
    other, _ = oci_image([sample_layer()], architecture="arm64")
    platforms = [{"os": "linux", "architecture": name} for name in ("amd64", "arm64")]
    pointers = [
        descriptor(data, "manifest.v1+json", platform=where)
        for data, where in zip((mine, other), platforms, strict=True)
    ]
    assert run(oci_layout(pointers, blobs), tmp_path)[0] == "sha256:" + sha256(config([sample_layer()]))


def test_one_image_under_two_names_is_one_image(tmp_path):
    manifest, blobs = oci_image([sample_layer()])
    pointer = descriptor(manifest, "manifest.v1+json")
    named = [pointer | {"annotations": {"org.opencontainers.image.ref.name": name}} for name in ("a", "b")]
    assert run(oci_layout(named, blobs), tmp_path)[0] == "sha256:" + sha256(config([sample_layer()]))


def test_the_hosts_variant_wins(tmp_path):
    blobs, pointers, ids = [], [], {}
    for variant in ("v6", "v7", "v8"):
        manifest, more = oci_image([sample_layer(variant)], architecture="arm")
        blobs += more
        ids[variant] = "sha256:" + sha256(config([sample_layer(variant)], "arm"))
        platform = {"os": "linux", "architecture": "arm", "variant": variant}
        pointers.append(descriptor(manifest, "manifest.v1+json", platform=platform))
    assert run(oci_layout(pointers, blobs), tmp_path, architecture="armv7l")[0] == ids["v7"]
    assert run(oci_layout(pointers, blobs), tmp_path, architecture="armv6l")[0] == ids["v6"]


@pytest.mark.parametrize("link", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_docker_save_may_link_equal_layers(link, tmp_path):
    layer = sample_layer()
    raw = config([layer, layer])
    target = "../a/layer.tar" if link == tarfile.SYMTYPE else "a/layer.tar"
    manifest = [{"Config": "c.json", "RepoTags": ["x:y"], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    data = tar(
        [
            ("a/layer.tar", layer),
            entry("b/layer.tar", link, target),
            ("c.json", raw),
            ("manifest.json", json.dumps(manifest).encode()),
        ]
    )
    assert run(data, tmp_path)[0] == "sha256:" + sha256(raw)


@pytest.mark.parametrize("compress", COMPRESS)
def test_a_root_file_system_becomes_a_one_layer_image(compress, tmp_path):
    data = rootfs()
    engine_id, said, archive = run(COMPRESS[compress](data), tmp_path)
    assert said.command == ("/bin/sh",)
    assert said.env["PATH"].endswith("/bin")
    assert data in files(archive).values()
    assert run(data, tmp_path)[0] == engine_id


@pytest.mark.parametrize(
    ("more", "command", "signal"),
    [
        (("./sbin/init", b"#!"), "/sbin/init", None),
        (entry("./usr/sbin/init", tarfile.SYMTYPE, "../lib/systemd/systemd"), "/sbin/init", "SIGRTMIN+3"),
        (entry("./sbin/init", tarfile.SYMTYPE, "/lib/systemd/systemd"), "/sbin/init", "SIGRTMIN+3"),
        (("./init", b"#!"), "/init", None),
    ],
)
def test_a_root_file_system_starts_its_init(more, command, signal, tmp_path):
    said = run(rootfs(more), tmp_path)[1]
    assert (said.command, said.stop_signal) == ((command,), signal)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_or_broken_is_refused(name, tmp_path):
    build, speaks_of = HOSTILE[name]
    with pytest.raises(ImageRejected, match=speaks_of) as caught:
        run(build(), tmp_path)
    assert caught.value.resolution
    assert list(tmp_path.iterdir()) == []


def test_hundred_zero_megabytes_are_no_bomb_if_they_fit(tmp_path):
    data = docker_save([tar([("etc/zeros", bytes(100 << 20))])], compress="zstd")
    assert run(data, tmp_path, limits=ImageLimits(max_unpacked_bytes=101 << 20))
    with pytest.raises(ImageRejected, match="more than 99 MiB"):
        run(data, tmp_path, limits=ImageLimits(max_unpacked_bytes=99 << 20))


def test_zeros_take_no_room_in_the_workspace(tmp_path):
    data = docker_save([tar([("etc/zeros", bytes(20 << 20)), ("etc/text", b"text")])], compress="zstd")
    with ExitStack() as stack:
        numbers = open_spools(stack, tmp_path, 2)
        verdict = check(pieces(data), "x86_64", ImageLimits(), tuple(map(Spool, numbers)))
        assert verdict.size > 20 << 20
        assert sum(os.fstat(number).st_blocks for number in numbers) * 512 < 3 << 20
        written = b"".join(
            chunk for place in verdict.extents for chunk in read_slice(numbers[place.spool], *place[1:3])
        )
        assert sha256(
            files(files(written)[json.loads(files(written)["manifest.json"])[0]["Layers"][0]])["etc/zeros"]
        ) == (sha256(bytes(20 << 20)))


def test_a_layer_may_stand_twice_under_its_name_if_it_is_the_same(tmp_path):
    layer = sample_layer()
    raw = config([layer, layer])
    manifest = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": ["l.tar", "l.tar"]}]).encode()
    entries = [("l.tar", layer), ("c.json", raw), ("manifest.json", manifest)]
    assert run(tar([*entries, ("l.tar", layer)]), tmp_path)[0] == "sha256:" + sha256(raw)
    with pytest.raises(ImageRejected, match="twice"):
        run(tar([*entries, ("l.tar", sample_layer("other"))]), tmp_path)


def test_entries_are_counted_over_all_layers(tmp_path):
    layers = [tar([(f"{layer}-{index}", b"") for index in range(60)]) for layer in range(2)]
    with pytest.raises(ImageRejected, match="more than 100 files"):
        run(docker_save(layers), tmp_path, limits=ImageLimits(max_entries=100))


def test_a_bomb_stops_the_spool_early(tmp_path):
    passed = 0

    def endless():
        nonlocal passed
        yield docker_save([sample_layer()])[:-10240]
        while True:
            passed += 1 << 20
            yield bytes(1 << 20)

    with pytest.raises(ImageRejected, match="larger than the 5 MiB"):
        normalise(
            endless(), architecture="amd64", limits=ImageLimits(max_spooled_bytes=5 << 20), workspace=tmp_path
        ).close()
    assert passed < 8 << 20


def test_a_bomb_is_read_in_little_memory(tmp_path):
    data = COMPRESS["zstd"](COMPRESS["zstd"](b"")) + HOSTILE["zstd-bomb"][0]()
    tracemalloc.start()
    with pytest.raises(ImageRejected):
        run(data, tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_failing_download_leaves_nothing(tmp_path):
    def broken():
        yield docker_save(LAYERS)[:5000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        normalise(broken(), architecture="amd64", limits=LIMITS, workspace=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_workspace_is_the_hosts_fault(tmp_path):
    script = (
        "import sys, pathlib; from dockstack.oci.normalise import *\n"
        "data = sys.stdin.buffer.read()\n"
        "try: normalise([data], architecture='amd64', limits=ImageLimits(), workspace=pathlib.Path(sys.argv[1]))\n"
        "except WorkspaceFull as error: print(error)"
    )

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, input=docker_save(LAYERS), capture_output=True, check=True, preexec_fn=limit)
    assert b"no room" in done.stdout


WHOLE = {
    "docker": docker_save([sample_layer()]),
    "gzip": COMPRESS["gzip"](docker_save([sample_layer()])),
    "oci": oci_archive([sample_layer()]),
    "zstd": COMPRESS["zstd"](oci_archive([sample_layer()], "zstd")),
    "rootfs": rootfs(("usr/bin/x", b"y" * 3000)),
    "xz": COMPRESS["xz"](rootfs(("usr/bin/x", b"y" * 3000))),
}


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_cut_archive_is_refused_or_whole(kind, data, tmp_path_factory):
    """Only the padding behind the end mark may be missing."""
    workspace = tmp_path_factory.getbasetemp() / "cut"
    workspace.mkdir(exist_ok=True)
    whole = WHOLE[kind]
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        engine_id = run(cut, workspace)[0]
    except ImageRejected:
        pass
    else:
        assert engine_id == run(whole, workspace)[0] or (kind in ("rootfs", "xz") and len(whole) - len(cut) < 10240)
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_gives_our_error_or_a_sound_image(kind, data, tmp_path_factory):
    workspace = tmp_path_factory.getbasetemp() / "flip"
    workspace.mkdir(exist_ok=True)
    bad = bytearray(WHOLE[kind])
    bad[data.draw(st.integers(0, len(bad) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(DockstackError):
        run(bytes(bad), workspace)
    assert list(workspace.iterdir()) == []


def test_image_config_reads_all_that_the_engine_keeps():
    assert image_config(
        {
            "Entrypoint": ["/e"],
            "Cmd": None,
            "User": "1000:1000",
            "WorkingDir": "/w",
            "StopSignal": "SIGINT",
            "Volumes": {"/v": {}, "/a": {}},
            "Healthcheck": {"Test": ["CMD", "x"]},
        }
    ) == ImageConfig(
        entrypoint=("/e",),
        user="1000:1000",
        working_directory="/w",
        stop_signal="SIGINT",
        volumes=("/a", "/v"),
        healthcheck={"Test": ["CMD", "x"]},
    )


@pytest.mark.parametrize("variable", ["=x", "="])
def test_a_variable_without_a_name_is_refused_as_no_runtime_starts_such_a_process(variable):
    with pytest.raises(ImageRejected, match="a variable without a name in Env"):
        image_config({"Env": ["PATH=/bin", variable]})


def test_an_empty_variable_is_none_as_for_the_engine():
    assert image_config({"Env": ["", "A"]}).env == {"A": ""}


TWO_READINGS = {
    "a name in another case": ('"config": {', '"config": {"volumes": {"/data": {}}, '),
    "a name with another k": ('"config": {', '"config": {"Volume\u017f": {"/data": {}}, '),
    "a name again": ('"config": {', '"config": {"Volumes": {"/data": {}}, "Volumes": {}, '),
    "all again": ('{"architecture"', '{"config": {"Volumes": {"/data": {}}}, "architecture"'),
    "all again in another case": ('{"architecture"', '{"Config": {"Volumes": {"/data": {}}}, "architecture"'),
    "a system in another case": ('"os"', '"OS": "plan9", "os"'),
}


@pytest.mark.parametrize("name", TWO_READINGS)
def test_what_the_engine_would_read_besides_is_refused(name, tmp_path):
    """It takes names in any case, and merges what is there twice; a volume of its own has no bound."""
    before, after = TWO_READINGS[name]
    layer = sample_layer()
    raw = config([layer], Volumes={}).decode().replace(before, after, 1).encode()
    with pytest.raises(ImageRejected, match="twice"):
        run(docker_save([layer], raw_config=raw), tmp_path)


def test_names_in_another_case_alone_are_read_as_the_engine_reads_them():
    read = Configuration.parse(b'{"OS":"linux","Config":{"cmd":["/x"],"volumes":{"/v":{}}},"RootFS":{"Diff_IDs":[]}}')
    assert (read.platform.os, image_config(read.process)) == ("linux", ImageConfig(command=("/x",), volumes=("/v",)))


@pytest.mark.parametrize(
    "raw", [b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"author": "\xff"}'], ids=["mark", "16", "latin"]
)
def test_a_document_in_no_utf_8_is_none(raw):
    with pytest.raises(ImageRejected, match="malformed"):
        Configuration.parse(raw)


def test_a_system_that_the_engine_breaks_down_over_is_refused():
    with pytest.raises(ImageRejected, match="for a system 'Linux'"):
        Configuration.parse(b'{"os":"Linux","rootfs":{"diff_ids":[]}}')
