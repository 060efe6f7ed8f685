# SPDX-License-Identifier: Apache-2.0
"""More legal archives: odd ones, each of which some writer of the world could make and the engine's word decides on."""

from __future__ import annotations

import gzip
import json
import tarfile
from typing import TYPE_CHECKING

from hostile_archives import END, file, header, padded, pax
from image_archives import COMPRESS, config, descriptor, entry, oci_layout, tar, with_checksum
from legal_archives import (
    AMD64,
    DOCKER,
    IMPORTED,
    MIB,
    NO_LAYOUT,
    NO_ZSTD,
    RUN,
    Case,
    Maker,
    artifact,
    image,
    index,
    listed,
    manifest,
    node,
    pointer,
    process,
    raw_layer,
    referred,
    rootfs,
    save,
    with_config,
    with_entries,
    with_process,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from image_archives import Entry


def named(
    layer_file: str, in_table: str | None = None, more: Sequence[Entry] = (), table: str = "manifest.json"
) -> Callable[[Maker], bytes]:
    """An image of one layer, whose file and whose name in the table are written differently."""

    def build(m: Maker) -> bytes:
        layer = tar(m.root())
        raw = config([layer], **RUN)
        where, said = listed("c.json", [in_table or layer_file])
        return tar([*more, (where if table == "manifest.json" else table, said), (layer_file, layer), ("c.json", raw)])

    return build


def packed(pack: Callable[[bytes], bytes]) -> Callable[[Maker], bytes]:
    """An image whose layers are compressed in a way of their own."""

    def build(m: Maker) -> bytes:
        layers = m.layers()
        raw, names = config(layers, **RUN), [f"{number}.tar.gz" for number in range(len(layers))]
        blobs = zip(names, map(pack, layers), strict=True)
        return tar([*blobs, ("c.json", raw), listed("c.json", names)])

    return build


def members(data: bytes) -> bytes:
    """One compressed member for each 4 KiB, as pigz, bgzip and eStargz make them."""
    return b"".join(gzip.compress(data[start : start + 4096]) for start in range(0, len(data), 4096))


def named_gzip(data: bytes) -> bytes:
    """A member with a file name and a comment in its header."""
    plain = gzip.compress(data, mtime=0)
    return plain[:3] + b"\x18" + plain[4:10] + b"caf\xe9 \n.tar\0a comment\0" + plain[10:]


def old_header(name: str, kind: bytes = b"\0", data: bytes = b"") -> bytes:
    """An entry as tar of 1979 writes it: without a magic."""
    raw = bytearray(header(name, kind, len(data)))
    raw[257:500] = bytes(243)
    return with_checksum(raw) + padded(data)


def with_size(kind: bytes, name: str, link: str = "", size: int = 512) -> bytes:
    """An entry that has a size and no content, as old tars write links and directories."""
    raw = bytearray(header(name, kind, size))
    raw[157 : 157 + len(link)] = link.encode()
    return with_checksum(raw)


def oci(m: Maker, said: bytes, blobs: Sequence[bytes], more: Sequence[Entry] = (), **where: object) -> bytes:
    return oci_layout([pointer(said, **where)], [said, *blobs], more)


def docker_types(m: Maker) -> bytes:
    """A manifest list of Docker's, with the media types of its schema 2."""
    layers = m.layers()
    raw, blobs = config(layers, **RUN), [COMPRESS["gzip"](layer) for layer in layers]
    kinds = ("container.image.v1+json", "image.rootfs.diff.tar.gzip")
    said = {
        "schemaVersion": 2,
        "mediaType": f"{DOCKER}distribution.manifest.v2+json",
        "config": descriptor(raw, "") | {"mediaType": DOCKER + kinds[0]},
        "layers": [descriptor(blob, "") | {"mediaType": DOCKER + kinds[1]} for blob in blobs],
    }
    one = json.dumps(said).encode()
    listing = {
        "schemaVersion": 2,
        "mediaType": f"{DOCKER}distribution.manifest.list.v2+json",
        "manifests": [descriptor(one, "", platform=AMD64) | {"mediaType": said["mediaType"]}],
    }
    top = json.dumps(listing).encode()
    return oci_layout([descriptor(top, "") | {"mediaType": listing["mediaType"]}], [top, one, raw, *blobs])


def without_media_types(m: Maker) -> bytes:
    """As version 1.0 of the specification lets them be left out of documents."""
    said, blobs = image(m)
    plain = json.dumps({key: value for key, value in json.loads(said).items() if key != "mediaType"}).encode()
    return oci(m, plain, blobs[1:])


def layer_type(kind: str, compress: str = "gzip") -> Callable[[Maker], bytes]:
    """Layers whose media type is another than their content's."""

    def build(m: Maker) -> bytes:
        layers = m.layers()
        raw, blobs = config(layers, **RUN), [COMPRESS[compress](layer) for layer in layers]
        return oci(m, manifest(raw, blobs, kind), [raw, *blobs])

    return build


def two_names(m: Maker) -> bytes:
    """One manifest under two names."""
    said, blobs = image(m)
    names = [{"annotations": {"org.opencontainers.image.ref.name": name}} for name in ("1.0", "latest")]
    return oci_layout([pointer(said, **name) for name in names], blobs)


def sha512_blobs(m: Maker) -> bytes:
    """Layers that are named by SHA-512."""
    import hashlib  # noqa: PLC0415 - here alone

    layers = m.layers()
    raw, blobs = config(layers, **RUN), [COMPRESS["gzip"](layer) for layer in layers]
    long = {blob: hashlib.sha512(blob).hexdigest() for blob in blobs}
    document = json.loads(manifest(raw, blobs))
    document["layers"] = [
        layer | {"digest": f"sha512:{long[blob]}"} for layer, blob in zip(document["layers"], blobs, strict=True)
    ]
    said = json.dumps(document).encode()
    return oci(m, said, [raw], [(f"blobs/sha512/{name}", blob) for blob, name in long.items()])


def mixed_compression(m: Maker) -> bytes:
    """Each layer compressed in another way, as after an upgrade of the tool that built the upper ones."""
    layers = m.layers(5)
    raw, kinds = config(layers, **RUN), ("gzip", "plain", "bzip2", "xz", "gzip")
    names = [f"{number}.tar" for number in range(5)]
    blobs = [COMPRESS[kind](layer) for kind, layer in zip(kinds, layers, strict=True)]
    return tar([("c.json", raw), *zip(names, blobs, strict=True), listed("c.json", names)])


def dual_of_two_platforms(m: Maker) -> bytes:
    """Two platforms, each in gzip and in zstd; those of zstd come first and lack a layer here."""
    pointers, blobs = [], []
    for architecture in ("amd64", "arm64"):
        layers = m.layers()
        raw = config(layers, architecture, **RUN)
        for kind in ("zstd", "gzip"):
            compressed = [COMPRESS[kind](layer) for layer in layers]
            said = manifest(raw, compressed, f"+{kind}")
            pointers.append(pointer(said, platform=AMD64 | {"architecture": architecture}))
            blobs += [said, raw, *(compressed if kind == "gzip" else compressed[:1])]
    return oci_layout(pointers, blobs)


def artifacts_alone_below(m: Maker) -> bytes:
    """An index of an image and an index in which there is no image at all."""
    said, blobs = image(m)
    wasm = artifact("application/wasm", b"\0asm", config_type="application/vnd.wasm.config.v0+json")
    below = index(pointer(wasm[0]))
    return oci_layout([pointer(below, "index.v1+json"), pointer(said)], [below, *wasm, *blobs])


def subject_away(m: Maker) -> bytes:
    """An image beside a signature of another one, which is not here."""
    said, blobs = image(m)
    signature = artifact("application/vnd.dev.sigstore.bundle.v0.3+json", b"{}", b"another manifest")
    return oci_layout([pointer(signature[0]), pointer(said)], [*signature, *blobs])


def annotated(m: Maker) -> bytes:
    """An image with annotations beyond ASCII, and members that nobody knows."""
    said, blobs = image(m, annotations={"org.opencontainers.image.title": "café \U0001f433"}, x=[1, {"y": None}])
    return oci(m, said, blobs[1:], platform=AMD64 | {"os.features": ["x"], "os.version": "6.1"})


def no_end(m: Maker) -> bytes:
    """An archive whose writer did not close it: it ends with its last file's last block."""
    return padded(save(m, m.layers()).rstrip(b"\0"))


def below_a_directory(m: Maker) -> bytes:
    """A whole system below one directory, as containers of LXD have it beside their metadata."""
    return tar([("metadata.yaml", b"architecture: x86_64\n"), *m.root(prefix="rootfs/")])


def runs(**changes: object) -> Case:
    return Case(with_process(**process(**changes)))


SPARSE_HOLE = tuple(
    (f"GNU.sparse.{key}", value)
    for key, value in (("major", b"1"), ("minor", b"0"), ("name", b"var/hole"), ("realsize", b"1048576"))
)
SPARSE_EMPTY = (*SPARSE_HOLE[:3], ("GNU.sparse.realsize", b"0"))
SIGNED = (("uid", b"1000"), ("mtime", b"-5.25"), ("SCHILY.xattr.user.new\nline", b"a\n\0b"), ("path", b"etc/old"))

ODD: dict[str, Case] = {
    # names in the archive
    "path-with-dots": Case(named("a/0.tar", "./a/../a/0.tar")),
    "path-from-the-root": Case(named("a/0.tar", "/a/0.tar")),
    "path-with-two-slashes": Case(named("a/0.tar", "a//0.tar")),
    "path-with-line-breaks": Case(named("a\n\t b%2f\\: \x1b[31m.tar")),
    "path-of-255": Case(named("x" * 251 + ".tar")),
    "path-of-500": Case(named("d/" * 240 + "0.tar")),
    "path-beyond-ascii": Case(named("слой/層-🐳.tar")),
    "path-of-no-encoding": Case(named("caf\udce9.tar", "a.tar", [entry("a.tar", tarfile.SYMTYPE, "caf\udce9.tar")])),
    "table-with-dot": Case(named("0.tar", table="./manifest.json")),
    "link-absolute": Case(named("0.tar", "a.tar", [entry("a.tar", tarfile.SYMTYPE, "/0.tar")])),
    "link-to-link-to-link": Case(
        named("0.tar", "c", [entry(a, tarfile.SYMTYPE, b) for a, b in (("c", "b"), ("b", "a"), ("a", "0.tar"))])
    ),
    "link-of-a-directory": Case(named("real/0.tar", "blobs/0.tar", [entry("blobs", tarfile.SYMTYPE, "real")])),
    "link-of-directories-in-a-row": Case(
        named("x/y/0.tar", "b/0.tar", [entry("a", tarfile.SYMTYPE, "x"), entry("b", tarfile.SYMTYPE, "./a/../a/y")])
    ),
    "hard-linked-layer": Case(
        lambda m: tar(
            [
                ("0.tar", layer := tar(m.root())),
                entry("1.tar", tarfile.LNKTYPE, "0.tar"),
                ("c.json", config([layer], **RUN)),
                listed("c.json", ["1.tar"]),
            ]
        )
    ),
    "files-of-a-finder": Case(named("0.tar", more=[("._manifest.json", b"\0\5\x16\7"), (".DS_Store", b"Bud1")])),
    "dot-directory-first": Case(named("0.tar", more=[entry("./", tarfile.DIRTYPE)])),
    # compression
    "gzip-members": Case(packed(members)),
    "gzip-with-a-name": Case(packed(named_gzip)),
    "gzip-stored": Case(packed(lambda data: gzip.compress(data, 0))),
    "outer-gzip-members": Case(lambda m: members(save(m, m.layers()))),
    "outer-and-inner": Case(lambda m: COMPRESS["xz"](save(m, m.layers(), compress="gzip"))),
    "mixed-compression": Case(mixed_compression),
    "zstd-frames": Case(
        packed(lambda data: COMPRESS["zstd"](data[:5000]) + COMPRESS["zstd"](data[5000:])), engine=NO_ZSTD
    ),
    "zstd-skippable-frame": Case(
        packed(lambda data: b"\x50\x2a\x4d\x18\4\0\0\0meta" + COMPRESS["zstd"](data)), engine=NO_ZSTD
    ),
    "dual-compression-halves": Case(dual_of_two_platforms, engine=NO_LAYOUT),
    "typed-gzip-is-plain": Case(layer_type("+gzip", "plain"), engine=NO_LAYOUT),
    "typed-plain-is-zstd": Case(layer_type("", "zstd"), engine=NO_LAYOUT),
    # documents
    "docker-media-types": Case(docker_types, engine=NO_LAYOUT),
    "no-media-types": Case(without_media_types, engine=NO_LAYOUT),
    "two-names": Case(two_names, engine=NO_LAYOUT),
    "sha512-blobs": Case(sha512_blobs, engine=NO_LAYOUT),
    "annotated": Case(annotated, engine=NO_LAYOUT),
    "referrer-wasm-below": Case(artifacts_alone_below, engine=NO_LAYOUT),
    "referrer-of-what-is-away": Case(subject_away, engine=NO_LAYOUT),
    "referrers-of-all-kinds": Case(
        referred(
            *("application/vnd.cyclonedx+json", "application/sarif+json", "application/vnd.in-toto+dsse"),
            *("application/vnd.oci.empty.v1+json", "application/octet-stream", "text/plain"),
        ),
        engine=NO_LAYOUT,
    ),
    "no-process": Case(with_config(config=None)),
    "null-process": Case(with_config(config={})),
    "configuration-with-more": Case(with_config(container="x" * 64, docker_version="1.13", moby={"y": [None]})),
    "os-windows": Case(with_config(os="windows"), "for windows", "refuses: cannot load windows image on linux"),
    # what runs
    "environment-odd": runs(Env=["PATH=/bin", "A", "C=1", "C=2", "D=é\n", "E="]),
    "words-beyond-ascii": runs(Cmd=["/bin/sh", "-c", "echo up é; exec /bin/sleep 1000000", "", "🐳"]),
    "labels-odd": runs(Labels={"": "", "é": "\n", "a" * 300: "b"}),
    "user-by-number": runs(User="1234:5678"),
    "volumes-odd": runs(Volumes={"/data": {}, "/a b/é": {}}),
    "health-none": runs(Healthcheck={"Test": ["NONE"]}),
    "ports-odd": runs(ExposedPorts={"80/tcp": {}, "53/udp": {}}),
    "directory-that-is-not-there": runs(WorkingDir="/srv/not/there"),
    "stop-signal-mixed-case": runs(StopSignal="SigRtMin+3"),
    "stop-signal-max": runs(StopSignal="SIGRTMAX-2"),
    "stop-signal-kill": runs(StopSignal="kill"),
    "stop-signal-empty": runs(StopSignal=""),
    "stop-signal-blank": runs(StopSignal=" SIGTERM "),
    "stop-signal-zero": runs(StopSignal="0"),
    "stop-signal-too-large": runs(StopSignal="99"),
    # tar
    "layer-of-1979": Case(raw_layer(old_header("srv/", b"\0"), old_header("srv/old", data=b"x"))),
    "layer-without-end": Case(lambda m: save(m, [tar(m.root()), file("etc/x")])),
    "layer-with-bytes-after-its-end": Case(raw_layer(file("etc/x"), END, b"rubbish" * 100)),
    "archive-without-end": Case(no_end, "ends too early", "refuses: unexpected EOF"),
    "archive-with-bytes-after-its-end": Case(lambda m: save(m, m.layers()) + b"rubbish" * 200),
    "link-with-a-size": Case(raw_layer(file("etc/a"), with_size(b"1", "etc/b", "etc/a"), file("etc/c"))),
    "directory-with-a-size": Case(raw_layer(with_size(b"5", "srv/"), file("srv/c"))),
    "contiguous-file": Case(raw_layer(header("etc/x", b"7", 0)), "does not unpack", "refuses: tar header type 55"),
    "old-times-and-names": Case(raw_layer(pax(*SIGNED), file("x"))),
    "empty-records": Case(raw_layer(pax(("path", b""), ("size", b""), ("uname", b"")), file("etc/kept"))),
    "binary-names": Case(raw_layer(pax(("hdrcharset", b"BINARY"), ("path", b"etc/\xff")), file("x"))),
    "absolute-names": Case(raw_layer(file("/etc/absolute"), file("//etc//b"), file("./etc/./c"), file("etc/x/../d"))),
    "names-of-255": Case(with_entries(("etc/" + "n" * 255, b"x"), ("etc/" + "é" * 127, b"y"))),
    "names-odd": Case(with_entries(*((name, b"x") for name in ("etc/\n", "etc/ ", "etc/\\", "-rf", "etc/\x7f")))),
    "file-becomes-directory": Case(
        lambda m: save(m, [tar(m.root()), tar([("x", b"1")]), tar([("x/y", b"2")]), tar([("x", b"3")])])
    ),
    "through-a-link-of-below": Case(
        lambda m: save(m, [tar(m.root(entry("l", tarfile.SYMTYPE, "etc"))), tar([("l/through", b"2")])])
    ),
    "sticky-and-setuid": Case(with_entries(entry("bin/su", mode=0o6755), entry("srv", tarfile.DIRTYPE, mode=0o1777))),
    "whiteout-of-nothing": Case(with_entries(("a/b/.wh.c", b""), ("etc/.wh..wh.aufs", b""))),
    "sparse-hole": Case(raw_layer(pax(*SPARSE_HOLE), file("GNUSparseFile.0/x", padded(b"1\n1048576\n0\n")))),
    "sparse-empty": Case(raw_layer(pax(*SPARSE_EMPTY), file("GNUSparseFile.0/x", padded(b"0\n")))),
    "zeros-packed-twice": Case(
        lambda m: COMPRESS["gzip"](save(m, [tar(m.root(("z", bytes(8 * MIB))))], compress="gzip"))
    ),
    # devices
    "device-of-large-numbers": Case(with_entries(node("dev/x", tarfile.CHRTYPE, 511, 1048575 >> 4))),
    "device-below-dev-of-no-device": Case(with_entries(node("dev/pts/ptmx", tarfile.CHRTYPE, 0, 0))),
    "device-then-file": Case(
        lambda m: save(m, [tar(m.root(node("srv/x", tarfile.CHRTYPE, 1, 3))), tar([("srv/x", b"now a file")])])
    ),
    "fifo-in-dev": Case(with_entries(node("dev/initctl", tarfile.FIFOTYPE, 0, 0))),
    # root file systems
    "rootfs-names-odd": Case(rootfs(("./données/\n", b"x"), ("./ ", b""), ("./🐳", b"")), engine=IMPORTED),
    "rootfs-merged": Case(
        rootfs(entry("./sbin", tarfile.SYMTYPE, "usr/bin"), entry("./lib64", tarfile.SYMTYPE, "usr/lib")),
        engine=IMPORTED,
    ),
    "rootfs-of-nixos": Case(
        lambda m: tar([entry("nix", tarfile.DIRTYPE), *m.root(entry("init", tarfile.SYMTYPE, "/bin/sh"))]),
        engine=IMPORTED,
    ),
    "rootfs-absolute": Case(rootfs(prefix="/"), engine=IMPORTED),
    "rootfs-of-1979": Case(lambda m: old_header("srv/", b"\0") + tar(m.root()), engine=IMPORTED),
    "rootfs-with-a-table-for-a-directory": Case(rootfs(entry("./manifest.json", tarfile.DIRTYPE)), engine=IMPORTED),
    "rootfs-below-a-directory": Case(
        below_a_directory, "neither a container image nor a root file system", engine=IMPORTED
    ),
    "rootfs-of-one-program": Case(
        lambda _: tar([("hello", b"\x7fELF")]), "neither a container image nor a root file system", engine=IMPORTED
    ),
}  # fmt: skip

# Those that differ in what runs; the rest in how the archive says it
RUNNING = [
    *("link-of-directories-in-a-row", "zstd-skippable-frame", "dual-compression-halves", "referrer-wasm-below"),
    *(
        "environment-odd",
        "words-beyond-ascii",
        "labels-odd",
        "user-by-number",
        "volumes-odd",
        "health-none",
        "ports-odd",
    ),
    *("directory-that-is-not-there", "stop-signal-mixed-case", "stop-signal-max", "stop-signal-kill"),
    *("stop-signal-empty", "stop-signal-blank", "stop-signal-zero", "stop-signal-too-large"),
    *("layer-of-1979", "link-with-a-size", "file-becomes-directory", "through-a-link-of-below", "sparse-hole"),
    *("rootfs-names-odd", "rootfs-merged", "rootfs-of-nixos", "rootfs-absolute", "rootfs-of-1979"),
    "rootfs-with-a-table-for-a-directory",
]
