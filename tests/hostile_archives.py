# SPDX-License-Identifier: Apache-2.0
"""A corpus of hostile image archives: named bombs, and mutations of legal archives drawn from a seed.

As a program it feeds a directory of such archives to the driver's image store and prints what became of each:
``hostile_archives.py ENGINE_URL DIRECTORY WORKSPACE``. It is run as one so that its memory is nobody else's.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import resource
import struct
import sys
import tarfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from image_archives import (
    BLOCK,
    COMPRESS,
    HOSTILE,
    config,
    descriptor,
    docker_save,
    entry,
    files,
    flat_image,
    header,
    multi_platform,
    oci_archive,
    oci_layout,
    rootfs,
    sample_layer,
    sha256,
    tar,
    with_checksum,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE = 500
UNPACKED = 64 << 20  # what an image of the corpus may unpack to


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def pax(*records: tuple[str, bytes], kind: bytes = b"x") -> bytes:
    """An extended header."""
    data = b""
    for key, value in records:
        rest = b" " + key.encode() + b"=" + value + b"\n"
        length = len(rest) + len(str(len(rest)))
        length = len(rest) + len(str(length))
        data += str(length).encode() + rest
    return header("pax", kind, len(data)) + padded(data)


def file(name: str = "f", data: bytes = b"x") -> bytes:
    return header(name, b"0", len(data)) + padded(data)


END = bytes(2 * BLOCK)


def layered(*parts: bytes, compress: str = "gzip") -> bytes:
    """An image of one layer of raw tar blocks."""
    return docker_save([b"".join(parts) + END], compress=compress)


def sparse_map(blocks: int) -> bytes:
    """A sparse file whose map has that many further blocks, each with 21 pieces of no bytes."""
    piece = b"%011o\0%011o\0" % (0, 0)
    block = piece * 21 + b"\1" + bytes(7)
    return header("f", b"S", 0, extended=True) + block * (blocks - 1) + piece * 21 + bytes(8)


def members(name: str, size: int) -> bytes:
    """Compressed members without content."""
    empty = {
        "gzip": gzip.compress(b"", mtime=0),
        "bzip2": bz2.compress(b""),
        "xz": lzma.compress(b"", preset=0),
        "zstd": zstandard.ZstdCompressor().compress(b""),
        "skippable": struct.pack("<II", 0x184D2A50, 0),
    }[name]
    lead = COMPRESS["zstd" if name == "skippable" else name](file())
    return lead + empty * (size // len(empty))


def stored_blocks(size: int) -> bytes:
    """One gzip member of empty stored blocks."""
    body = (b"\0" + struct.pack("<HH", 0, 0xFFFF)) * (size // 5) + b"\1" + struct.pack("<HH", 0, 0xFFFF)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + body + struct.pack("<II", zlib.crc32(b""), 0)


def raw_layer(blob: bytes) -> bytes:
    """An image whose layer is these very bytes."""
    return tar(flat_image(config([sample_layer()]), blob))


def index_of_indexes() -> bytes:
    """Levels that name the next one 256 times each: 16 million ways down."""
    blobs: list[bytes] = []
    below = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    for _ in range(3):
        blobs.append(below)
        pointers = [descriptor(below, "index.v1+json")] * 256
        below = json.dumps({"schemaVersion": 2, "manifests": pointers}).encode()
    return oci_layout([descriptor(below, "index.v1+json")], [*blobs, below])


def with_config(raw: bytes) -> bytes:
    return docker_save([sample_layer()], raw_config=raw)


def many(count: int, kind: bytes, name: str, link: str = "") -> bytes:
    """A layer of that many small entries."""
    return b"".join(_numbered(index, kind, name, link) for index in range(count))


def _numbered(index: int, kind: bytes, name: str, link: str) -> bytes:
    return entry(name.format(index), kind, link).tobuf(tarfile.GNU_FORMAT)


def _process(**process: object) -> bytes:
    return with_config(config([sample_layer()], **process))


def _binary_size(field: bytes) -> bytes:
    raw = bytearray(header("f", b"0", 0))
    raw[124:136] = field
    return with_checksum(raw)


def _xz_dictionary() -> bytes:
    """An xz stream that asks for a dictionary of 4 GiB."""
    block = bytes([2, 0, 0x21, 1, 40, 0, 0, 0])
    flags = b"\0\4"
    return (
        b"\xfd7zXZ\0"
        + flags
        + struct.pack("<I", zlib.crc32(flags))
        + block
        + struct.pack("<I", zlib.crc32(block))
        + bytes(99)
    )


def _unused_bombs() -> bytes:
    """A sound image among layers that nobody asks for, each of 48 MiB of zeros."""
    bomb = COMPRESS["gzip"](tar([("etc/zeros", bytes(48 << 20))]))
    sound = files(docker_save([sample_layer()]))
    return tar([*((f"bomb{index}/layer.tar", bomb) for index in range(30)), *sound.items()])


BOMBS: dict[str, Callable[[], bytes]] = {
    "sparse-map-in-layer": lambda: layered(sparse_map(40_000)),
    "sparse-map-in-archive": lambda: COMPRESS["gzip"](sparse_map(100_000) + END),
    "sparse-map-cut": lambda: docker_save([sparse_map(2000)[:-BLOCK]]),
    "sparse-vast": lambda: layered(header("f", b"S", 0, real=0o77777777777)),
    "sparse-pax-vast": lambda: layered(pax(*SPARSE[:3], ("GNU.sparse.realsize", b"9" * 17)), file("f", padded(b"0\n"))),
    "sparse-pax-endless": lambda: layered(pax(*SPARSE), file("f", padded(b"999999999\n" + b"1\n" * 700_000))),
    "sparse-overlaps": lambda: layered(
        header("f", b"S", 0, extended=True) + padded(b"%011o\0%011o\0" % (5, 0) + b"%011o\0%011o\0" % (1, 0))
    ),
    "sparse-pax-1.0": lambda: layered(
        pax(("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")), file(data=b"1\n" * 9)
    ),
    "sparse-pax-map": lambda: layered(pax(("GNU.sparse.map", b"0,1," * 20_000)), file()),
    "sparse-pax-blocks": lambda: layered(pax(*[("GNU.sparse.offset", b"1")] * 20_000), file()),
    "chained-pax": lambda: layered(pax(("comment", b"x")) * 2000, file()),
    "chained-pax-in-archive": lambda: pax(("comment", b"x")) * 2000 + docker_save([sample_layer()]),
    "chained-names": lambda: layered((header("n", b"L", 5) + padded(b"name\0")) * 2000, file()),
    "chained-links": lambda: layered((header("n", b"K", 5) + padded(b"name\0")) * 2000, file()),
    "chained-mixed": lambda: layered((pax(("a", b"b")) + header("n", b"L", 2) + padded(b"n\0")) * 2000, file()),
    "pax-without-end": lambda: layered(pax(("comment", b"x")))[:-1024],
    "pax-records": lambda: layered(header("pax", b"x", 1_000_000) + padded(b"5 a=\n" * 200_000), file()),
    "pax-length-lies": lambda: layered(header("pax", b"x", 20) + padded(b"9999999 path=../../x\n"[:20]), file()),
    "pax-length-zero": lambda: layered(header("pax", b"x", 8) + padded(b"0 a=b\n\n\n"), file()),
    "pax-no-record": lambda: layered(header("pax", b"x", 600) + padded(b"\xff" * 600), file()),
    "pax-vast-size": lambda: layered(pax(("size", b"9" * 4000)), file()),
    "pax-negative-size": lambda: layered(pax(("size", b"-1")), file()),
    "pax-number": lambda: layered(pax(("mtime", b"1e999999999")), file()),
    "pax-uid": lambda: layered(pax(("uid", b"9" * 100_000)), file()),
    "pax-escape": lambda: layered(pax(("path", b"../../etc/cron.d/x")), file()),
    "pax-link-escape": lambda: layered(pax(("linkpath", b"../../etc/shadow")), entry("x", b"1", "y").tobuf()),
    "pax-path-nul": lambda: layered(pax(("path", b"a\0/../..")), file()),
    "pax-path-long": lambda: layered(pax(("path", b"a/" * 400_000)), file()),
    "pax-global-path": lambda: layered(pax(("path", b"../../x"), kind=b"g"), file()),
    "pax-vast": lambda: layered(header("pax", b"x", 64 << 20) + bytes(48 << 20)),
    "name-and-path": lambda: layered(pax(("path", b"a")), header("n", b"L", 9) + padded(b"../../x\0\0"), file()),
    "long-name": lambda: layered(header("n", b"L", 1 << 20) + b"a/" * (1 << 19), file()),
    "long-names": lambda: layered(*[header("n", b"L", 4090) + padded(b"a/" * 2045) + file()] * 9000),
    "vast-roots": lambda: COMPRESS["gzip"](
        b"".join(header("n", b"L", 4000) + padded(b"%04000d" % index) + file() for index in range(9000)) + END
    ),
    "binary-size": lambda: layered(_binary_size(b"\x80" + b"\xff" * 11)),
    "negative-size": lambda: layered(_binary_size(b"\xff" * 12)),
    "size-beyond": lambda: layered(header("f", b"0", 0o77777777777)),
    "volume-label": lambda: layered(header("f", b"V", 0), file()),
    "multi-volume": lambda: layered(header("f", b"M", 0), file()),
    "contiguous": lambda: layered(header("f", b"7", 0), file()),
    "whiteout-of-parent": lambda: layered(file("etc/.wh..."), file()),
    "whiteout-of-nothing": lambda: layered(file("etc/.wh."), file()),
    "gzip-members": lambda: raw_layer(members("gzip", 4 << 20)),
    "bzip2-members": lambda: raw_layer(members("bzip2", 4 << 20)),
    "xz-members": lambda: raw_layer(members("xz", 4 << 20)),
    "zstd-members": lambda: raw_layer(members("zstd", 8 << 20)),
    "zstd-skippable": lambda: raw_layer(members("skippable", 8 << 20)),
    "outer-gzip-members": lambda: members("gzip", 8 << 20),
    "outer-bzip2-members": lambda: members("bzip2", 8 << 20),
    "outer-xz-members": lambda: members("xz", 8 << 20),
    "outer-zstd-members": lambda: members("zstd", 8 << 20),
    "members-in-gzip": lambda: COMPRESS["gzip"](raw_layer(members("gzip", 32 << 20))),
    "stored-blocks": lambda: raw_layer(stored_blocks(16 << 20)),
    "gzip-name": lambda: raw_layer(b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"n" * (16 << 20)),
    "zstd-window": lambda: raw_layer(struct.pack("<IBB", 0xFD2FB528, 0, 0xF8) + bytes(1000)),
    "xz-dictionary": lambda: raw_layer(_xz_dictionary()),
    "json-deep-config": lambda: with_config(b'{"rootfs":' + b'{"a":' * 400_000 + b"1" + b"}" * 400_001),
    "json-deep-index": lambda: tar([("oci-layout", b"{}"), ("index.json", b"[" * 2_000_000)]),
    "json-wide": lambda: tar([("manifest.json", b"[" + b"{}," * 1_300_000 + b"{}]")]),
    "json-keys": lambda: tar([("manifest.json", b"[{" + b",".join(b'"%d":{}' % i for i in range(300_000)) + b"}]")]),
    "json-number": lambda: tar([("manifest.json", b"[" + b"9" * 4_000_000 + b"]")]),
    "json-nan": lambda: tar([("manifest.json", b"[NaN, Infinity]")]),
    "json-surrogates": lambda: _process(Env=["A=\ud800"], Cmd=["\udfff"]),
    "config-vast-process": lambda: _process(Env=[f"A{index}=" + "x" * 100 for index in range(20_000)]),
    "config-deep-healthcheck": lambda: _process(Healthcheck={"Test": json.loads("[" * 400 + "]" * 400)}),
    "config-odd-volumes": lambda: _process(Volumes=["/x"]),
    "config-odd-env": lambda: _process(Env={"A": "B"}),
    "index-of-indexes": index_of_indexes,
    "index-long": lambda: oci_layout([descriptor(b"x%d" % index, "manifest.v1+json") for index in range(5000)], []),
    "manifest-climbs": lambda: tar([("manifest.json", b'[{"Config":"../../../etc/passwd","Layers":["/etc/shadow"]}]')]),
    "manifest-of-links": lambda: tar(
        [*(entry(f"l{index}", b"2", f"l{index + 1}") for index in range(2000)), ("manifest.json", b'[{"Config":"l0"}]')]
    ),
    "link-circle": lambda: tar([entry("a", b"2", "b"), entry("b", b"2", "a"), ("manifest.json", b'[{"Config":"a"}]')]),
    "many-hard-links": lambda: layered(many(20_000, b"1", "l{}", "f")),
    "many-whiteouts": lambda: layered(many(20_000, b"0", ".wh.f{}")),
    "many-blobs": lambda: COMPRESS["gzip"](many(40_000, b"0", "blobs/sha256/{}") + docker_save([sample_layer()])),
    "many-layers": lambda: docker_save([sample_layer(str(index)) for index in range(200)]),
    "many-large-layers": lambda: docker_save(
        [tar([(f"f{index}", bytes([index]) * (9 << 20))]) for index in range(12)], compress="gzip"
    ),
    "unused-bombs": _unused_bombs,
    "nested-compression": lambda: COMPRESS["gzip"](COMPRESS["gzip"](docker_save([sample_layer()]))),
    "names-of-control": lambda: tar([("a\x1b[2J\n\x07", b"x"), ("b\udcff", b"y")]),
    "layer-is-device": lambda: tar(
        [
            entry("l.tar", b"3"),
            ("c.json", config([b""])),
            ("manifest.json", b'[{"Config":"c.json","Layers":["l.tar"]}]'),
        ]
    ),
    "end-mark-broken": lambda: layered(file(), bytes(BLOCK), file()),
    "checksum-wrong": lambda: layered(file()[:100] + b"\1" + file()[101:]),
}


SPARSE = (
    ("GNU.sparse.major", b"1"),
    ("GNU.sparse.minor", b"0"),
    ("GNU.sparse.name", b"f"),
    ("GNU.sparse.realsize", b"9"),
)
LEGAL: dict[str, Callable[[], bytes]] = {
    "docker": lambda: docker_save([sample_layer("one"), sample_layer("two")]),
    "oci": lambda: oci_archive([sample_layer("one"), tar([("bin/x", b"y" * 3000), entry("l", b"2", "/a/b")])]),
    "oci-zstd": lambda: oci_archive([sample_layer("one")], "zstd"),
    "platforms": lambda: multi_platform({"amd64": [sample_layer("a")], "arm64": [sample_layer("b")]}),
    "rootfs": lambda: rootfs(("usr/bin/x", b"y" * 3000), entry("sbin/init", b"2", "/bin/sh")),
    "pax": lambda: layered(pax(("path", b"etc/" + b"n" * 200), ("mtime", b"1.5")), file(), compress="plain"),
    "sparse": lambda: layered(
        pax(*SPARSE),
        file("f", padded(b"1\n0\n1\n") + b"x"),
        header("n", b"L", 150) + padded(b"d/" * 75),
        file(),
        compress="plain",
    ),
}


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Change a legal archive as a fuzzer does, sometimes with its checksums put right again."""
    raw = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = chance.randrange(len(raw) + 1)
        what = chance.randrange(8)
        if what == 0:
            raw[place : place + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            raw[place : place + chance.randrange(1, 40)] = chance.randbytes(chance.randrange(40))
        elif what == 2:
            del raw[place : place + chance.choice((1, 100, BLOCK, 4096))]
        elif what == 3:
            block = place // BLOCK * BLOCK
            raw[block:block] = raw[block : block + BLOCK] * chance.choice((1, 3, 50))
        elif what == 4:
            del raw[place + 1 :]
        else:
            _mutate_header(raw, chance)
    if chance.random() < 0.3:
        return COMPRESS[chance.choice(("gzip", "zstd"))](bytes(raw))
    return bytes(raw)


def _mutate_header(raw: bytearray, chance: random.Random) -> None:
    """Change a field of a header and put its checksum right, so that the reader has to look at the field."""
    blocks = [place for place in range(0, len(raw) - BLOCK + 1, BLOCK) if raw[place + 257 : place + 262] == b"ustar"]
    if not blocks:
        return
    block = chance.choice(blocks)
    start, end = chance.choice(((0, 100), (124, 136), (156, 157), (157, 257), (345, 500), (257, 265), (482, 495)))
    values = (
        chance.randbytes(end - start),
        b"\xff" * (end - start),
        bytes(end - start),
        b"../../../../etc/passwd"[: end - start],
        b"77777777777777"[: end - start],
        chance.choice((b"x", b"g", b"L", b"K", b"S", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"V", b"\0"))[
            : end - start
        ],
    )
    value = chance.choice(values)
    raw[block + start : block + start + len(value)] = value
    raw[block : block + BLOCK] = with_checksum(raw[block : block + BLOCK])


def corpus(seed: int) -> Iterator[tuple[str, bytes]]:
    """Give the names and bytes of the whole corpus; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    named = {**{name: build for name, (build, _) in HOSTILE.items()}, **BOMBS}
    for name, build in named.items():
        yield name, build()
    legal = {name: build() for name, build in LEGAL.items()} | _legal_of_the_world(seed)
    for number in range(SIZE - len(named)):
        name = chance.choice(list(legal))
        yield f"{name}-mutation-{number}", mutate(legal[name], chance)


def _legal_of_the_world(seed: int) -> dict[str, bytes]:
    """Those of the other corpus whose parts are read by code that the ones here do not reach."""
    from legal_archives import CASES, Maker  # noqa: PLC0415 - it is made of this module's parts

    names = ("docker-29", "podman-docker-archive", "buildah-dual-compression", "referrer-cosign")
    names += ("sparse-pax", "device-nodes", "rootfs-layout")
    return {name: CASES[name].build(Maker(seed)) for name in names}


def main(url: str, directory: Path, workspace: Path) -> dict[str, object]:
    """Feed the archives to an image store, two at a time, and say what became of each."""
    from dockstack.compute.engine import Engine  # noqa: PLC0415 - not for those who only want archives
    from dockstack.compute.images.fetch import ImageStore  # noqa: PLC0415
    from dockstack.compute.model import Image  # noqa: PLC0415
    from dockstack.errors import DockstackError  # noqa: PLC0415
    from dockstack.oci.streams import ImageLimits  # noqa: PLC0415

    def download(image: Image) -> Iterator[bytes]:
        with (directory / image.id).open("rb") as data:
            while chunk := data.read(65536):
                yield chunk

    store = ImageStore(Engine(url, 60), download, workspace, ImageLimits(max_unpacked_bytes=UNPACKED), timeout=60)
    store.sweep()

    computing: dict[str, float] = {}
    current = threading.local()
    _count_computing(lambda seconds: computing.update({current.name: computing.get(current.name, 0.0) + seconds}))

    def feed(path: Path) -> tuple[str, dict[str, object]]:
        started, current.name = time.monotonic(), path.name
        image = Image(id=path.name, name=path.name, checksum=sha256(path.name.encode()) * 2, size=path.stat().st_size)
        try:
            found: dict[str, object] = {"loaded": store.ensure(image, 0).engine_id}
        except DockstackError as error:
            found = {"fault": type(error).__name__, "text": str(error), "details": error.details}
        except Exception as error:  # noqa: BLE001 - what must not be
            found = {"fault": type(error).__name__, "text": repr(error), "details": "escaped"}
        return path.name, found | {"seconds": time.monotonic() - started}

    current.name = "warm-up"
    store.ensure(Image(id="warm-up", name="warm-up"), 0)  # loads what this process needs anyway
    before = _memory("VmRSS")
    with ThreadPoolExecutor(2) as pool:
        verdicts = dict(pool.map(feed, sorted(path for path in directory.iterdir() if path.name != "warm-up")))
    computing.pop("warm-up")
    return {
        "verdicts": verdicts,
        "computing": computing,
        "growth": _memory("VmHWM") - before,
        "checker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10,
    }


def _count_computing(tell: Callable[[float], None]) -> None:
    """Have each process that this one waits for tell the processor time that it took, in the thread that waits."""

    def waitpid(pid: int, options: int) -> tuple[int, int]:
        ended, status, usage = os.wait4(pid, options)
        if ended:
            tell(usage.ru_utime + usage.ru_stime)
        return ended, status

    os.waitpid = waitpid  # subprocess asks for no usage


def _memory(kind: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    json.dump(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])), sys.stdout)
