# SPDX-License-Identifier: Apache-2.0
"""A corpus of legal image archives, as the tools of the world write them, drawn from a seed; and the table of verdicts.

As a program it writes them to a directory: ``legal_archives.py DIRECTORY [BUSYBOX [SEED]]``. With a static busybox they
run: each says "up" and stays.
"""

from __future__ import annotations

import json
import random
import struct
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hostile_archives import END, file, header, padded, pax
from image_archives import COMPRESS, config, descriptor, entry, oci_layout, sha256, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from image_archives import Entry

SEED = 20261127
BOOTS = ""
MIB = 1 << 20
OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
RUN = {"Cmd": ["/bin/sh", "-c", "echo up; exec /bin/sleep 1000000"], "Env": ["PATH=/bin"]}
AMD64 = {"os": "linux", "architecture": "amd64"}


class Maker:
    """Makes the parts of archives, a little different for each seed."""

    def __init__(self, seed: int, shell: bytes = b"#!\n") -> None:
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.shell = shell

    def root(self, *more: Entry, prefix: str = "") -> list[Entry]:
        """The entries of a root file system that runs."""
        directories = ["bin", "etc", "tmp", "dev", "proc", "sys", "run", "usr"]
        self.chance.shuffle(directories)
        links = [entry(f"{prefix}bin/{name}", tarfile.SYMTYPE, "busybox") for name in ("sh", "sleep", "cat", "mkdir")]
        files = [(f"{prefix}bin/busybox", self.shell), (f"{prefix}etc/passwd", b"root:x:0:0::/:/bin/sh\n")]
        return [*(entry(prefix + name, tarfile.DIRTYPE) for name in directories), *files, *links, *more]

    def layers(self, count: int = 2) -> list[bytes]:
        """A root file system, and layers that add a file each."""
        added = [tar([(f"layer/{index}", self.chance.randbytes(20))]) for index in range(1, count)]
        return [tar(self.root()), *added]

    def id(self) -> str:
        """A layer's name that tells nothing of its content."""
        return self.chance.randbytes(32).hex()

    def mixed(self, entries: Iterable[Entry]) -> bytes:
        """An archive whose entries stand in any order."""
        shuffled = list(entries)
        self.chance.shuffle(shuffled)
        return tar(shuffled)


def process(**changes: object) -> dict[str, object]:
    return RUN | changes


def listed(configuration: str, layers: Sequence[str], tags: Sequence[str] | None = ("x:1",)) -> Entry:
    """Docker's table of contents."""
    return "manifest.json", json.dumps([{"Config": configuration, "RepoTags": tags, "Layers": layers}]).encode()


def save(m: Maker, layers: Sequence[bytes], raw: bytes | None = None, compress: str = "plain") -> bytes:
    """What ``docker save`` of an engine before 25 writes."""
    raw = raw or config(layers, **RUN)
    names = {layer: m.id() for layer in layers}
    entries: list[Entry] = [listed(f"{sha256(raw)}.json", [f"{names[layer]}/layer.tar" for layer in layers])]
    entries += [(f"{sha256(raw)}.json", raw), ("repositories", b'{"x":{"1":"%s"}}' % names[layers[-1]].encode())]
    for layer, name in names.items():
        entries += [entry(f"{name}/", tarfile.DIRTYPE), (f"{name}/VERSION", b"1.0"), (f"{name}/json", b"{}")]
        entries.append((f"{name}/layer.tar", COMPRESS[compress](layer)))
    return m.mixed(entries)


def manifest(raw: bytes, blobs: Sequence[bytes], suffix: str = "+gzip", **more: object) -> bytes:
    """An image's manifest."""
    layers = [descriptor(blob, f"layer.v1.tar{suffix}") for blob in blobs]
    said = {"schemaVersion": 2, "mediaType": f"{OCI}manifest.v1+json", "config": descriptor(raw, "config.v1+json")}
    return json.dumps({**said, "layers": layers, **more}).encode()


def artifact(kind: str, data: bytes, subject: bytes = b"", raw: bytes = b"{}", config_type: str = "") -> list[bytes]:
    """A manifest that is no image, and its blobs."""
    said: dict[str, object] = {"schemaVersion": 2, "mediaType": f"{OCI}manifest.v1+json", "artifactType": kind}
    said["config"] = descriptor(raw, "") | {"mediaType": config_type or "application/vnd.oci.empty.v1+json"}
    said["layers"] = [descriptor(data, "") | {"mediaType": kind}]
    if subject:
        said["subject"] = pointer(subject)
    return [json.dumps(said).encode(), raw, data]


def pointer(data: bytes, kind: str = "manifest.v1+json", **more: object) -> dict[str, object]:
    return descriptor(data, kind, **more)


def index(*manifests: dict[str, object]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json", "manifests": manifests}).encode()


def image(m: Maker, compress: str = "gzip", raw: bytes | None = None, **more: object) -> tuple[bytes, list[bytes]]:
    """A manifest, and all blobs with it."""
    layers = m.layers()
    raw, blobs = raw or config(layers, **RUN), [COMPRESS[compress](layer) for layer in layers]
    said = manifest(raw, blobs, "" if compress == "plain" else f"+{compress}", **more)
    return said, [said, raw, *blobs]


def layout(m: Maker, compress: str = "gzip", **where: object) -> bytes:
    """What skopeo, podman and buildah write as oci-archive."""
    said, blobs = image(m, compress)
    return oci_layout([pointer(said, **where)], blobs)


def hybrid(m: Maker, compress: str = "plain") -> bytes:
    """A layout with Docker's table beside it: Docker 25, BuildKit, containerd."""
    said, blobs = image(m, compress)
    paths = [f"blobs/sha256/{sha256(blob)}" for blob in blobs]
    directories = [entry("blobs/", tarfile.DIRTYPE), entry("blobs/sha256/", tarfile.DIRTYPE)]
    return oci_layout([pointer(said, platform=AMD64)], blobs, [*directories, listed(paths[1], paths[2:])])


def docker29(m: Maker) -> bytes:
    """Of two platforms one is there; a provenance attestation beside it."""
    said, blobs = image(m)
    absent = {"mediaType": f"{OCI}manifest.v1+json", "digest": f"sha256:{m.id()}", "size": 9}
    raw, toto = config([b"x"], "unknown"), "application/vnd.in-toto+json"
    proof, *more = artifact(toto, b"{}", said, raw, f"{OCI}config.v1+json")
    note = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    unknown = {"platform": {"os": "unknown", "architecture": "unknown"}}
    top = index(
        pointer(said, platform=AMD64),
        absent | {"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        pointer(proof, **unknown, **note),
    )
    paths = [f"blobs/sha256/{sha256(blob)}" for blob in blobs]
    return oci_layout([pointer(top, "index.v1+json")], [top, *blobs, proof, *more], [listed(paths[1], paths[2:])])


def podman(m: Maker) -> bytes:
    """Layers by digest, and by links from the names of old."""
    layers = m.layers()
    raw = config(layers, **RUN)
    entries: list[Entry] = [(f"{sha256(layer)}.tar", layer) for layer in layers]
    for layer in layers:
        name = m.id()
        entries += [(f"{name}/VERSION", b"1.0"), (f"{name}/json", b"{}")]
        entries.append(entry(f"{name}/layer.tar", tarfile.SYMTYPE, f"../{sha256(layer)}.tar"))
    names = [f"{sha256(layer)}.tar" for layer in layers]
    return tar([*entries, (f"{sha256(raw)}.json", raw), listed(f"{sha256(raw)}.json", names)])


def flat(m: Maker, name_config: str, name_layer: str, compress: str = "gzip", *, twice: bool = False) -> bytes:
    """Docker's table with names as each tool likes them; {} is the digest of what is there."""
    layers = m.layers() * (2 if twice else 1)
    raw, blobs = config(layers, **RUN), [COMPRESS[compress](layer) for layer in layers]
    names = [name_layer.format(sha256(blob), index) for index, blob in enumerate(blobs)]
    path = name_config.format(sha256(raw))
    return tar([(path, raw), *zip(names, blobs, strict=True), listed(path, names)])


def two_tags(m: Maker) -> bytes:
    """One image that its table names twice."""
    layers = m.layers()
    raw = config(layers, **RUN)
    names = [f"{index}.tar" for index in range(len(layers))]
    table = [{"Config": "c.json", "RepoTags": [tag], "Layers": names} for tag in ("x:1", "x:2")]
    return tar([("c.json", raw), *zip(names, layers, strict=True), ("manifest.json", json.dumps(table).encode())])


def dual_compression(m: Maker) -> bytes:
    layers = m.layers()
    raw = config(layers, **RUN)
    packed = {kind: [COMPRESS[kind](layer) for layer in layers] for kind in ("gzip", "zstd")}
    said = {kind: manifest(raw, blobs, f"+{kind}") for kind, blobs in packed.items()}
    top = index(*(pointer(document, platform=AMD64) for document in said.values()))
    blobs = [raw, top, *said.values(), *packed["gzip"], *packed["zstd"]]
    return oci_layout([pointer(top, "index.v1+json")], blobs)


def referred(*kinds: str, config_type: str = "", below: bool = False) -> Callable[[Maker], bytes]:
    """An image with what describes or signs it beside it, or in an index below."""

    def build(m: Maker) -> bytes:
        said, blobs = image(m)
        raw = config([b""]) if config_type else b"{}"
        made = [artifact(kind, kind.encode(), said, raw, config_type) for kind in kinds]
        beside = [pointer(documents[0]) for documents in made]
        blobs += [blob for documents in made for blob in documents]
        if below:
            fallback = index(*beside)
            beside, blobs = [pointer(fallback, "index.v1+json")], [*blobs, fallback]
        pointers = [pointer(said), *beside]
        m.chance.shuffle(pointers)
        return oci_layout(pointers, blobs)

    return build


def beside_nonsense(m: Maker) -> bytes:
    """An image beside artifacts that are no manifests of images in any way."""
    said, blobs = image(m)
    nonsense = [b'{"schemaVersion":2,"blobs":[]}', b'{"config":{"mediaType":"application/x"},"layers":null}', b"\xff"]
    absent = pointer(b"away", artifactType="application/spdx+json")
    return oci_layout([*map(pointer, nonsense), absent, pointer(said)], [*blobs, *nonsense])


def deep(m: Maker) -> bytes:
    """An index of indexes of indexes."""
    said, blobs = image(m)
    below = pointer(said, platform=AMD64)
    for _ in range(3):
        top = index(below)
        blobs.append(top)
        below = pointer(top, "index.v1+json")
    return oci_layout([below], blobs)


def platforms(*names: tuple[str, str]) -> Callable[[Maker], bytes]:
    """An index of images for several architectures and variants; the first is what a host of amd64 runs."""

    def build(m: Maker) -> bytes:
        pointers, blobs = [], []
        for architecture, variant in names:
            layers = m.layers()
            packed = [COMPRESS["gzip"](layer) for layer in layers]
            raw = config(layers, architecture, **RUN)
            said = manifest(raw, packed)
            where = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
            pointers.append(pointer(said, platform=where))
            blobs += [said, raw, *packed]
        m.chance.shuffle(pointers)
        return oci_layout(pointers, blobs)

    return build


def raw_layer(*parts: bytes) -> Callable[[Maker], bytes]:
    """A layer of raw blocks above a root file system."""
    return lambda m: save(m, [tar(m.root()), b"".join(parts) + END])


def with_entries(*more: Entry) -> Callable[[Maker], bytes]:
    return lambda m: save(m, [tar(m.root()), tar(more)])


def with_process(**changes: object) -> Callable[[Maker], bytes]:
    """An image with other words in its configuration; None takes one out."""
    said = {name: value for name, value in process(**changes).items() if value is not None}

    def build(m: Maker) -> bytes:
        layers = m.layers()
        document = json.loads(config(layers)) | {"config": said}
        return save(m, layers, json.dumps(document).encode())

    return build


def with_config(**changes: object) -> Callable[[Maker], bytes]:
    """An image with other members in its configuration's document; None takes one out."""

    def build(m: Maker) -> bytes:
        layers = m.layers()
        document = {**json.loads(config(layers, **RUN)), **changes}
        return save(m, layers, json.dumps({k: v for k, v in document.items() if v is not None}).encode())

    return build


def goes_on_from_run(init: str) -> Callable[[Maker], bytes]:
    """An init that copies itself to /run and goes on there, as s6-overlay does."""
    script = b"""#!/bin/sh
/bin/busybox mkdir -p /run/s6
/bin/busybox cp /bin/busybox /run/s6/busybox
exec /run/s6/busybox sh -c 'echo up; exec /bin/sleep 1000000'
"""
    info = entry(init, mode=0o755)
    info.size = len(script)

    def build(m: Maker) -> bytes:
        layers = [tar(m.root()), info.tobuf(tarfile.PAX_FORMAT) + padded(script) + END]
        return save(m, layers, config(layers, Entrypoint=[f"/{init}"], Cmd=None, Env=["PATH=/bin"]))

    return build


def many_layers(count: int) -> Callable[[Maker], bytes]:
    """Layers of which some are empty, and some twice the same."""

    def build(m: Maker) -> bytes:
        layers = m.layers(count - 5)
        return save(m, [*layers, tar([]), tar([]), layers[1], layers[-1], b""])

    return build


def rootfs(
    *more: Entry, prefix: str = "./", compress: str = "plain", first: Sequence[Entry] = ()
) -> Callable[[Maker], bytes]:
    return lambda m: COMPRESS[compress](tar([*first, *m.root(*more, prefix=prefix)]))


def node(name: str, kind: bytes, major: int, minor: int) -> tarfile.TarInfo:
    found = entry(name, kind)
    found.devmajor, found.devminor = major, minor
    return found


def layout_in_root(m: Maker) -> bytes:
    """A root file system that somebody keeps a whole image layout in."""
    said, blobs = image(m)
    kept = [(f"blobs/sha256/{sha256(blob)}", blob) for blob in blobs]
    marks = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", index(pointer(said)))]
    return tar([*m.root(), *marks, *kept])


def in_form(form: int) -> Callable[[Maker], bytes]:
    """A root file system in another form of tar."""

    def build(m: Maker) -> bytes:
        blocks = b""
        for item in m.root():
            info, data = (item, b"") if isinstance(item, tarfile.TarInfo) else (tarfile.TarInfo(item[0]), item[1])
            info.size, info.mode = len(data), 0o755
            blocks += info.tobuf(form) + padded(data)
        return blocks + END

    return build


def legacy(m: Maker) -> bytes:
    """What Docker before 1.10 wrote."""
    name = m.id()
    said = json.dumps({"id": name, "os": "linux", "architecture": "amd64", "config": RUN}).encode()
    files = [(f"{name}/VERSION", b"1.0"), (f"{name}/json", said), (f"{name}/layer.tar", tar(m.root()))]
    return tar([*files, ("repositories", b'{"x":{"1":"%s"}}' % name.encode())])


def without_layers(_: Maker) -> bytes:
    return tar([("c.json", config([], **RUN)), listed("c.json", [])])


def two_images(m: Maker) -> bytes:
    (one, first), (two, second) = image(m), image(m)
    return oci_layout([pointer(one), pointer(two)], [*first, *second])


def helm(_: Maker) -> bytes:
    kind = "application/vnd.cncf.helm."
    chart = artifact(f"{kind}chart.content.v1.tar+gzip", b"x", config_type=f"{kind}config.v1+json")
    return oci_layout([pointer(chart[0])], chart)


def encrypted(m: Maker) -> bytes:
    layers = m.layers()
    raw = config(layers, **RUN)
    said = manifest(raw, layers, "+gzip+encrypted")
    return oci_layout([pointer(said)], [said, raw, *layers])


class Case(NamedTuple):
    """One kind of archive.

    Attributes:
        build: makes one.
        refused: what our refusal speaks of; empty if it boots.
        engine: "loads" if ``docker load`` of an engine 20.10 does, else why not; None: it is for ``docker import``.
    """

    build: Callable[[Maker], bytes]
    refused: str = BOOTS
    engine: str | None = "loads"


NO_LAYOUT = "cannot read a layout alone; Docker 25 can, and skopeo for it"
NO_ZSTD = "cannot decompress zstd; Docker 23 can"
IMPORTED = None
BSD = (("LIBARCHIVE.creationtime", b"1.5"), ("SCHILY.dev", b"5"), ("LIBARCHIVE.xattr.user.x", b"eQ"))
CAPABILITY = struct.pack("<IIIII", 0x2000001, 0x400, 0, 0, 0)
XATTR = (("SCHILY.xattr.user.a", b"\0\1\2"), ("SCHILY.xattr.security.capability", CAPABILITY))
PAX_SPARSE = tuple((f"GNU.sparse.{key}", value) for key, value in
                   (("major", b"1"), ("minor", b"0"), ("name", b"var/sparse"), ("realsize", b"1048576")))  # fmt: skip

CASES: dict[str, Case] = {
    "docker-20": Case(lambda m: save(m, m.layers())),
    "docker-20-xz-layers": Case(lambda m: save(m, m.layers(), compress="xz")),
    "docker-25": Case(hybrid),
    "docker-29": Case(docker29),
    "docker-29-several-tags": Case(two_tags),
    "podman-docker-archive": Case(podman),
    "podman-oci-archive": Case(layout, engine=NO_LAYOUT),
    "skopeo-oci-zstd": Case(lambda m: layout(m, "zstd"), engine=NO_LAYOUT),
    "skopeo-oci-plain": Case(lambda m: layout(m, "plain"), engine=NO_LAYOUT),
    "skopeo-docker-archive": Case(lambda m: flat(m, "{}.json", "{}.tar", "plain")),
    "buildah-dual-compression": Case(dual_compression, engine=NO_LAYOUT),
    "buildah-manifest-list": Case(platforms(("amd64", ""), ("arm64", "v8"), ("s390x", "")), engine=NO_LAYOUT),
    "buildkit-docker": Case(lambda m: hybrid(m, "gzip")),
    "buildkit-docker-zstd": Case(lambda m: hybrid(m, "zstd"), engine=NO_ZSTD),
    "bazel-rules-oci": Case(lambda m: flat(m, "blobs/sha256/{}", "blobs/sha256/{}.tar.gz")),
    "bazel-rules-docker": Case(lambda m: flat(m, "{}.json", "{1}-layer/layer.tar", "plain")),
    "nix-build-image": Case(lambda m: COMPRESS["gzip"](flat(m, "{}.json", "{}/layer.tar", "plain"))),
    "nix-stream-layered": Case(lambda m: save(m, m.layers(40))),
    "kaniko": Case(lambda m: flat(m, "sha256:{}", "{}.tar.gz")),
    "jib-layer-twice": Case(lambda m: flat(m, "config.json", "{}.tar.gz", twice=True)),
    "umoci-in-a-directory": Case(lambda m: COMPRESS["bzip2"](layout(m)), engine=NO_LAYOUT),
    "foreign-layer-ids": Case(lambda m: flat(m, "conf/é ü.json", "layers/{1} of a build/x.tar", "bzip2")),
    "digest-paths-of-others": Case(lambda m: flat(m, "c", "blobs/sha256/%s{1}" % ("0" * 63))),
    "outer-zstd": Case(lambda m: COMPRESS["zstd"](save(m, m.layers())), engine=NO_ZSTD),
    "referrer-sbom": Case(referred("application/spdx+json", "text/spdx"), engine=NO_LAYOUT),
    "referrer-cosign": Case(
        referred("application/vnd.dev.cosign.simplesigning.v1+json", config_type=f"{OCI}config.v1+json"),
        engine=NO_LAYOUT,
    ),
    "referrer-notation": Case(
        referred("application/jose+json", config_type="application/vnd.cncf.notary.signature"), engine=NO_LAYOUT
    ),
    "referrer-index": Case(referred("application/vnd.in-toto+json", "application/cose", below=True), engine=NO_LAYOUT),
    "referrer-of-an-image's-form": Case(
        referred(f"{OCI}layer.v1.tar", config_type=f"{OCI}config.v1+json"), engine=NO_LAYOUT
    ),
    "referrers-without-sense": Case(beside_nonsense, engine=NO_LAYOUT),
    "index-of-indexes": Case(deep, engine=NO_LAYOUT),
    "variants-of-amd64": Case(platforms(("amd64", ""), ("amd64", "v2"), ("amd64", "v3")), engine=NO_LAYOUT),
    "what-amd64-runs-besides": Case(platforms(("386", ""), ("arm", "v7")), engine=NO_LAYOUT),
    "architecture-as-uname-says": Case(with_config(architecture="x86_64")),
    "no-architecture": Case(with_config(architecture=None)),
    "no-history": Case(with_config(history=None, created=None)),
    "layers-125": Case(many_layers(125)),
    "layers-126": Case(many_layers(126), "126 layers", "refuses: more than 125 layers"),
    "layer-of-no-byte": Case(lambda m: save(m, [*m.layers(), b"", bytes(1024)])),
    "long-names-pax": Case(raw_layer(pax(("path", b"d/" * 150 + b"n" * 200)), file())),
    "long-names-gnu": Case(raw_layer(header("././@LongLink", b"L", 301) + padded(b"d/" * 150 + b"n\0"), file())),
    "names-of-no-encoding": Case(raw_layer(pax(("path", b"caf\xe9/\xff\xfe")), file("x"), file("etc/\udce9"))),
    "hard-links": Case(
        with_entries(("a", b"data"), entry("b", tarfile.LNKTYPE, "a"), entry("etc/c", tarfile.LNKTYPE, "/b"))
    ),
    "whiteouts": Case(with_entries(("etc/.wh.gone", b""), ("tmp/.wh..wh..opq", b""), ("tmp/new", b"x"))),
    "extended-attributes": Case(raw_layer(pax(*XATTR), file("bin/ping", b"#!"))),
    "sparse-gnu": Case(
        raw_layer(header("var/sparse", b"S", 0, real=MIB)), "engine does not unpack", "refuses: tar header type 83"
    ),
    "sparse-pax": Case(
        raw_layer(pax(*PAX_SPARSE), file("GNUSparseFile.0/sparse", padded(b"1\n1048571\n5\n") + b"hello"))
    ),
    "fifo": Case(with_entries(node("run/initctl", tarfile.FIFOTYPE, 0, 0))),
    "large-user-ids": Case(raw_layer(pax(("uid", b"4000000000"), ("gid", b"2000000000")), file("etc/owned"))),
    "device-nodes": Case(
        with_entries(node("srv/named/dev/null", tarfile.CHRTYPE, 1, 3), node("dev/loop0", tarfile.BLKTYPE, 7, 0))
    ),
    "zeros": Case(lambda m: save(m, [tar(m.root(("var/redo.log", bytes(4 * MIB))))], compress="gzip")),
    "git-global-header": Case(raw_layer(pax(("comment", b"0" * 40), kind=b"g"), file("etc/f"))),
    "nulls": Case(with_process(Entrypoint=None, Volumes=None, Labels=None, User=None, OnBuild=None)),
    "command-of-one-string": Case(with_process(Entrypoint="/bin/sh", Cmd=["-c", "echo up; exec /bin/sleep 1000000"])),
    "stop-signal-lower": Case(with_process(StopSignal="sigquit")),
    "stop-signal-number": Case(with_process(StopSignal="37")),
    "stop-signal-real-time": Case(with_process(StopSignal="RTMIN+3")),
    "stop-signal-of-nobody": Case(with_process(StopSignal="SIGNOTHING")),
    "s6-init": Case(goes_on_from_run("init")),
    "init-from-run": Case(goes_on_from_run("sbin/init")),
    "rootfs-debootstrap": Case(rootfs(node("./dev/console", tarfile.CHRTYPE, 5, 1)), engine=IMPORTED),
    "rootfs-docker-export": Case(rootfs(prefix="", first=[(".dockerenv", b"")]), engine=IMPORTED),
    **{f"rootfs-{kind}": Case(rootfs(compress=kind), engine=IMPORTED) for kind in ("gzip", "bzip2", "xz", "zstd")},
    "rootfs-gnu": Case(in_form(tarfile.GNU_FORMAT), engine=IMPORTED),
    "rootfs-ustar": Case(in_form(tarfile.USTAR_FORMAT), engine=IMPORTED),
    "rootfs-bsdtar": Case(lambda m: pax(*BSD) + tar(m.root()), engine=IMPORTED),
    "rootfs-of-an-application": Case(rootfs(first=[("app/x", b"y"), entry("app", tarfile.DIRTYPE)]), engine=IMPORTED),
    "rootfs-web-manifest": Case(rootfs(("manifest.json", b'{"name":"my app"}')), engine=IMPORTED),
    "rootfs-manifest-first": Case(
        rootfs(first=[("./manifest.json", b"[1]"), ("./index.json", b"nothing")]), engine=IMPORTED
    ),
    "rootfs-layout": Case(layout_in_root, engine=IMPORTED),
    "rootfs-repositories": Case(rootfs(entry("repositories", tarfile.DIRTYPE), ("oci-layout", b"")), engine=IMPORTED),
    "rootfs-postfix": Case(rootfs(node("./var/spool/postfix/dev/random", tarfile.CHRTYPE, 1, 8)), engine=IMPORTED),
    "rootfs-template": Case(
        rootfs(*(node(f"./dev/ram{n}", tarfile.BLKTYPE, 1, n) for n in range(16))), engine=IMPORTED
    ),
    "legacy": Case(legacy, "no manifest", "does not load all; gone from today's"),
    "two-images": Case(two_images, "holds 2 images", NO_LAYOUT),
    "no-root-file-system": Case(with_config(rootfs=None), "no root file system", "refuses: no RootFS key"),
    "no-layers": Case(without_layers, "0 layers", "loads; nothing in it runs"),
    "another-platform": Case(platforms(("s390x", ""), ("ppc64le", "")), "for linux/ppc64le, linux/s390x", NO_LAYOUT),
    "encrypted-layers": Case(encrypted, "no container image, but .*encrypted", NO_LAYOUT),
    "helm-chart": Case(helm, "no container image, but .*helm", NO_LAYOUT),
}  # fmt: skip


def corpus(seed: int = SEED, shell: bytes = b"#!\n") -> dict[str, bytes]:
    """Build them all; the same for the same seed."""
    return {name: case.build(Maker(seed + number, shell)) for number, (name, case) in enumerate(CASES.items())}


def main(directory: Path, shell: bytes, seed: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in corpus(seed, shell).items():
        (directory / f"{name}.tar").write_bytes(data)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]), Path(sys.argv[2]).read_bytes() if sys.argv[2:] else b"#!\n", int((sys.argv[3:] or [SEED])[0])
    )
