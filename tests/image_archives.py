# SPDX-License-Identifier: Apache-2.0
"""Image archives of every kind, sound and hostile, for the tests of images."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "zstd": zstandard.ZstdCompressor().compress,
}
Entry = tuple[str, bytes] | tarfile.TarInfo
BLOCK = tarfile.BLOCKSIZE


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    """An entry without content: a link, a directory, a device."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def tar(entries: Iterable[Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for item in entries:
            info, data = (item, b"") if isinstance(item, tarfile.TarInfo) else (tarfile.TarInfo(item[0]), item[1])
            if data:
                info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def files(data: bytes) -> dict[str, bytes]:
    """The content of an archive's files, by name."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {m.name: file.read() for m in archive if (file := archive.extractfile(m))}


def header(name: str, kind: bytes, size: int, *, extended: bool = False, real: int = 0) -> bytes:
    """A raw header, with the fields of GNU tar's sparse files."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT)[-BLOCK:])
    raw[156:157] = kind
    if kind == tarfile.GNUTYPE_SPARSE:
        raw[482] = int(extended)
        raw[483:495] = b"%011o\0" % real
    return with_checksum(raw)


def with_checksum(raw: bytearray) -> bytes:
    """A raw header, with the checksum that it must have."""
    return bytes(raw[:148] + b"%06o\0 " % (sum(raw[:148]) + sum(raw[156:]) + 8 * 32) + raw[156:])


def sample_layer(text: str = "hello") -> bytes:
    return tar([entry("etc", tarfile.DIRTYPE), ("etc/message", text.encode())])


def config(layers: Sequence[bytes], architecture: str = "amd64", **process: object) -> bytes:
    document = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/true"], "Env": ["A=b=c", "PATH=/bin"]} | process,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}" for layer in layers]},
    }
    return json.dumps(document).encode()


def docker_save(
    layers: Sequence[bytes],
    *,
    tags: Sequence[str] | None = None,
    raw_config: bytes | None = None,
    compress: str = "plain",
) -> bytes:
    """What ``docker save`` of an engine of 2023 writes; the manifest comes last."""
    configuration = raw_config or config(layers)
    names = [f"{index:064x}/layer.tar" for index in range(len(layers))]
    manifest = [{"Config": f"{sha256(configuration)}.json", "RepoTags": tags, "Layers": names}]
    entries: list[Entry] = []
    for name, layer in zip(names, layers, strict=True):
        entries += [entry(name.partition("/")[0], tarfile.DIRTYPE), (name, COMPRESS[compress](layer))]
    entries += [(f"{sha256(configuration)}.json", configuration), ("manifest.json", json.dumps(manifest).encode())]
    return tar(entries)


def flat_image(raw_config: bytes, layer: bytes) -> list[Entry]:
    """The entries of an image of one layer, which may be anything, as ``docker save`` writes them."""
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["l.tar"]}]
    return [("l.tar", layer), ("c.json", raw_config), ("manifest.json", json.dumps(manifest).encode())]


def descriptor(data: bytes, kind: str, **more: object) -> dict[str, object]:
    media_type = f"application/vnd.oci.image.{kind}"
    return {"mediaType": media_type, "digest": f"sha256:{sha256(data)}", "size": len(data)} | more


def oci_image(
    layers: Sequence[bytes], compress: str = "gzip", architecture: str = "amd64"
) -> tuple[bytes, list[bytes]]:
    """One image's manifest, and all its blobs."""
    packed = [COMPRESS[compress](layer) for layer in layers]
    configuration = config(layers, architecture)
    suffix = "" if compress == "plain" else f"+{compress}"
    document = {
        "schemaVersion": 2,
        "config": descriptor(configuration, "config.v1+json"),
        "layers": [descriptor(blob, f"layer.v1.tar{suffix}") for blob in packed],
    }
    manifest = json.dumps(document).encode()
    return manifest, [manifest, configuration, *packed]


def oci_layout(manifests: Sequence[dict[str, object]], blobs: Sequence[bytes], more: Sequence[Entry] = ()) -> bytes:
    index = {"schemaVersion": 2, "manifests": list(manifests)}
    named = {f"blobs/sha256/{sha256(blob)}": blob for blob in blobs}
    return tar(
        [
            ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            ("index.json", json.dumps(index).encode()),
            *named.items(),
            *more,
        ]
    )


def oci_archive(layers: Sequence[bytes], compress: str = "gzip") -> bytes:
    """What ``skopeo copy ... oci-archive:`` writes: no manifest.json."""
    manifest, blobs = oci_image(layers, compress)
    return oci_layout([descriptor(manifest, "manifest.v1+json")], blobs)


def multi_platform(layers_of: dict[str, Sequence[bytes]]) -> bytes:
    """What ``buildah manifest push --all`` writes: an index below index.json, beside BuildKit's attestation."""
    blobs: list[bytes] = []
    manifests = []
    for architecture, layers in layers_of.items():
        manifest, more = oci_image(layers, architecture=architecture)
        blobs += more
        platform = {"os": "linux", "architecture": architecture}
        manifests.append(descriptor(manifest, "manifest.v1+json", platform=platform))
    attestation, more = oci_image([sample_layer("attestation")])
    unknown = {"os": "unknown", "architecture": "unknown"}
    manifests.append(descriptor(attestation, "manifest.v1+json", platform=unknown))
    index = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    return oci_layout([descriptor(index, "index.v1+json")], [*blobs, *more, index])


def rootfs(*more: Entry) -> bytes:
    return tar(
        [
            entry("./", tarfile.DIRTYPE),
            entry("./etc", tarfile.DIRTYPE),
            entry("./dev", tarfile.DIRTYPE),
            entry("./dev/null", tarfile.CHRTYPE),
            ("./bin/sh", b"#!"),
            entry("./etc/mtab", tarfile.SYMTYPE, "/proc/mounts"),
            *more,
        ]
    )


def pieces(data: bytes, size: int = 65536) -> Iterator[bytes]:
    """A download."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _escape(link: str = "", name: str = "../../etc/cron.d/x", kind: bytes = tarfile.REGTYPE) -> bytes:
    return docker_save([tar([entry(name, kind, link)])])


def _two_images() -> bytes:
    first, second = sample_layer("1"), sample_layer("2")
    manifest = [{"Config": f"c{name}.json", "RepoTags": None, "Layers": [f"l{name}.tar"]} for name in "12"]
    entries = [("c1.json", config([first])), ("c2.json", config([second])), ("l1.tar", first), ("l2.tar", second)]
    return tar([*entries, ("manifest.json", json.dumps(manifest).encode())])


def _two_layouts() -> bytes:
    first, one = oci_image([sample_layer("1")])
    second, two = oci_image([sample_layer("2")])
    return oci_layout([descriptor(first, "manifest.v1+json"), descriptor(second, "manifest.v1+json")], [*one, *two])


def _wrong_blob() -> bytes:
    manifest, blobs = oci_image([sample_layer()])
    archive = oci_layout([descriptor(manifest, "manifest.v1+json")], blobs)
    other = COMPRESS["gzip"](sample_layer("HELLO"))
    return archive.replace(blobs[2], other[: len(blobs[2])].ljust(len(blobs[2]), b"\0"))


def _janus() -> bytes:
    """One image in index.json, another in manifest.json."""
    manifest, blobs = oci_image([sample_layer("shown")])
    hidden = sample_layer("hidden")
    more = flat_image(config([hidden]), hidden)
    return oci_layout([descriptor(manifest, "manifest.v1+json")], blobs, more)


def _missing_layer() -> bytes:
    manifest, blobs = oci_image([sample_layer()])
    return oci_layout([descriptor(manifest, "manifest.v1+json")], blobs[:2])


def _sparse_bomb() -> bytes:
    """A layer of a few blocks with a GNU sparse file of 8 GiB, which the engine would write out as zeros."""
    return docker_save([header("bomb", tarfile.GNUTYPE_SPARSE, 0, real=0o77777777777) + bytes(2 * BLOCK)])


def _deep_json() -> bytes:
    return tar([("manifest.json", b"[" * 100_000)])


def _vast_header() -> bytes:
    """A pax header that claims 8 GiB - 1, which a careless reader would read into memory."""
    return header("pax", tarfile.XHDTYPE, 0o77777777777) + bytes(4 << 20)


# name -> (archive, what the error has to speak of)
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "no-tar": (lambda: b"\x7fELF" + bytes(5000), "no tar"),
    "short": (lambda: b"hello", "no tar"),
    "zeros": (lambda: bytes(1 << 20), "no tar|neither"),
    "traversal-in-layer": (_escape, "outside its root"),
    "traversal-in-archive": (lambda: tar([("../../etc/passwd", b"x"), ("manifest.json", b"[]")]), "outside its root"),
    "hardlink-climbs": (lambda: _escape("../../etc/shadow", "x", tarfile.LNKTYPE), "outside its root"),
    "archive-link-climbs": (
        lambda: tar([entry("c.json", tarfile.SYMTYPE, "../../../etc/passwd"), ("manifest.json", b"[]")]),
        "outside its root",
    ),
    "no-block-device": (lambda: _escape(name="disk", kind=tarfile.BLKTYPE), "device node of no device"),
    "overlays-whiteout": (lambda: _escape(name="etc/shadow", kind=tarfile.CHRTYPE), "device node of no device"),
    "two-images": (_two_images, "2 images"),
    "two-manifests": (_two_layouts, "2 images"),
    "two-faces": (_janus, "different images"),
    "wrong-layer": (
        lambda: docker_save([sample_layer()], raw_config=config([sample_layer("other")])),
        "not what its digest",
    ),
    "wrong-config": (
        lambda: docker_save([sample_layer()]).replace(b'"A=b=c"', b'"A=b=d"'),
        "not what its digest",
    ),
    "wrong-blob": (_wrong_blob, "corrupt|not what its digest"),
    "missing-layer": (_missing_layer, "missing"),
    "too-few-layers": (
        lambda: docker_save([sample_layer()], raw_config=config([sample_layer(), sample_layer("2")])),
        "1 layers",
    ),
    "no-layers": (lambda: docker_save([]), "0 layers"),
    "huge-json": (lambda: tar([("manifest.json", b" " * (5 << 20))]), "5242880 bytes"),
    "deep-json": (_deep_json, "malformed"),
    "no-json": (lambda: tar([("manifest.json", b"\xff\xfe{")]), "malformed"),
    "duplicate": (lambda: tar([("manifest.json", b"[]"), ("manifest.json", b"{}")]), "twice"),
    "not-for-this-host": (lambda: multi_platform({"s390x": [sample_layer()]}), "linux/s390x"),
    "chart": (
        lambda: docker_save([sample_layer()], raw_config=b'{"name":"helm"}'),
        "no container image",
    ),
    "legacy": (lambda: tar([("repositories", b"{}"), ("x/layer.tar", b"")]), "no manifest"),
    "some-tar": (lambda: tar([("README.txt", b"hello")]), "neither"),
    "gzip-bomb": (lambda: docker_save([tar([("etc/zeros", bytes(96 << 20))])], compress="gzip"), "more than 8 MiB"),
    "outer-bomb": (lambda: COMPRESS["gzip"](docker_save([bytes(96 << 20)])), r"more than \d+ MiB"),
    "zstd-bomb": (lambda: COMPRESS["zstd"](docker_save([bytes(96 << 20)])), r"more than \d+ MiB"),
    "too-large": (lambda: docker_save([tar([("etc/x", bytes(9 << 20))])]), "more than 8 MiB"),
    "sparse-bomb": (_sparse_bomb, "does not unpack"),
    "vast-header": (_vast_header, "header|damaged"),
    "cut-gzip": (lambda: COMPRESS["gzip"](docker_save([sample_layer()]))[:-30], "corrupt"),
    "cut-rootfs": (lambda: rootfs(("usr/x", bytes(20000)))[:9000], "damaged|too early"),
    "bad-command": (
        lambda: docker_save([sample_layer()], raw_config=config([sample_layer()], Cmd={"sh": 1})),
        "malformed Cmd",
    ),
}
