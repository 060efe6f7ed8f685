# SPDX-License-Identifier: Apache-2.0
"""More archives still: rare words of configurations and tables, rare entries of tars, and broken ones of each part."""

from __future__ import annotations

import gzip
import json
import tarfile
from typing import TYPE_CHECKING

from hostile_archives import file, header, pax
from image_archives import config, entry, oci_layout, tar
from legal_archives import (
    IMPORTED,
    NO_LAYOUT,
    RUN,
    Case,
    Maker,
    image,
    listed,
    pointer,
    raw_layer,
    save,
    with_config,
    with_entries,
    with_process,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def runs(refused: str = "", engine: str | None = "loads", **changes: object) -> Case:
    return Case(with_process(**(RUN | changes)), refused, engine)


def says(refused: str = "", engine: str | None = "loads", **changes: object) -> Case:
    return Case(with_config(**changes), refused, engine)


def raw_config(change: Callable[[bytes], bytes]) -> Callable[[Maker], bytes]:
    """A configuration that is written in another way."""

    def build(m: Maker) -> bytes:
        layers = m.layers()
        return save(m, layers, change(config(layers, **RUN)))

    return build


def table(change: Callable[[list[dict[str, object]]], object], *, raw: bytes | None = None) -> Callable[[Maker], bytes]:
    """A table of contents with other words."""

    def build(m: Maker) -> bytes:
        layer = tar(m.root())
        said = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["0.tar"]}]
        data = json.dumps(change(said)).encode() if raw is None else raw
        return tar([("manifest.json", data), ("0.tar", layer), ("c.json", config([layer], **RUN))])

    return build


def layer_is(data: Callable[[bytes], bytes], *, proven: bool = True) -> Callable[[Maker], bytes]:
    """An image whose layer's file is something else than it should be."""

    def build(m: Maker) -> bytes:
        layer = tar(m.root())
        stored = data(layer)
        return tar(
            [("c.json", config([layer if proven else stored], **RUN)), ("0.tar", stored), listed("c.json", ["0.tar"])]
        )

    return build


def outer(change: Callable[[bytes], bytes]) -> Callable[[Maker], bytes]:
    return lambda m: change(save(m, m.layers()))


def appended(m: Maker) -> bytes:
    """A root file system to which somebody has added newer files, as ``tar --append`` does."""
    return tar([*m.root(("etc/motd", b"old"), prefix="./"), ("./etc/motd", b"new"), entry("./etc", tarfile.DIRTYPE)])


def capitals(raw: bytes) -> bytes:
    """As Go writes a structure without tags; it reads names in any case."""
    document = json.loads(raw)
    document["config"]["cmd"] = document["config"].pop("Cmd")
    return json.dumps({name.capitalize(): value for name, value in document.items()}).encode()


def cut(part: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * part)]


def flipped(data: bytes) -> bytes:
    where = len(data) * 2 // 3
    return data[:where] + bytes([data[where] ^ 0x55]) + data[where + 1 :]


def layout_of(change: Callable[[dict[str, object]], object]) -> Callable[[Maker], bytes]:
    """A layout whose manifest says something else."""

    def build(m: Maker) -> bytes:
        said, blobs = image(m)
        document = json.loads(said)
        change(document)
        said = json.dumps(document).encode()
        return oci_layout([pointer(said)], [said, *blobs[1:]])

    return build


def also(text: str) -> Callable[[bytes], bytes]:
    """More members of what is said of the process."""
    return lambda raw: raw.replace(b'"config": {', f'"config": {{{text}, '.encode())


NO_NAME, NO_START = "without a name in Env", "loads; no runtime starts it"
DUPLICATES = "duplicates of file paths"

RARE: dict[str, Case] = {
    # what runs
    "env-without-a-name": runs(NO_NAME, NO_START, Env=["PATH=/bin", "=x"]),
    "env-only-equals": runs(NO_NAME, NO_START, Env=["PATH=/bin", "="]),
    "env-empty": runs(Env=["PATH=/bin", ""]),
    "env-name-with-a-blank": runs(Env=["PATH=/bin", "a b=1", "é=2", "a-b.c=3"]),
    "env-null": runs(Env=None, Cmd=["/bin/sh", "-c", "echo up; exec /bin/sleep 1000000"]),
    "entrypoint-empty-list": runs(Entrypoint=[]),
    "entrypoint-one-empty-word": runs(Entrypoint=[""]),
    "user-empty": runs(User=""),
    "user-name-and-group": runs(User="root:0"),
    "user-with-an-empty-group": runs(User="0:"),
    "directory-with-dots": runs(WorkingDir="/etc/../srv//app/"),
    "directory-odd": runs(WorkingDir="/a b/é"),
    "volume-below-a-volume": runs(Volumes={"/data": {}, "/data/more": {}}),
    "volume-of-a-file": runs(Volumes={"/etc/passwd": {}}),
    "ports-of-nobody": runs(ExposedPorts={"abc": {}}),
    "ports-range": runs(ExposedPorts={"8000-8010/tcp": {}}),
    "health-shell": runs(Healthcheck={"Test": ["CMD-SHELL", "true"], "Interval": 1000000000}),
    "health-empty": runs(Healthcheck={}),
    "health-of-nobody": runs(Healthcheck={"Test": ["WHAT", "x"]}),
    "stop-timeout": runs(StopTimeout=3),
    "stop-timeout-negative": runs(StopTimeout=-1),
    "terminal": runs(Tty=True, OpenStdin=True),
    "network-disabled": runs(NetworkDisabled=True, MacAddress="02:42:ac:11:00:02"),
    "names-of-a-host": runs(Hostname="x y", Domainname="é", AttachStdin=True, ArgsEscaped=True),
    "on-build": runs(OnBuild=["RUN false"], Shell=["/bin/none"]),
    "labels-of-ours": runs(Labels={"org.openstack.nova.uuid": "x", "com.docker.compose.project": "x"}),
    # configurations
    "config-capitals": Case(raw_config(capitals)),
    "config-with-white-space": Case(raw_config(lambda raw: b"\n\t " + raw + b"\r\n\n")),
    "config-with-a-mark": Case(raw_config(lambda raw: b"\xef\xbb\xbf" + raw), "malformed", "refuses: no JSON"),
    "config-in-utf-16": Case(raw_config(lambda raw: raw.decode().encode("utf-16")), "malformed", "refuses: no JSON"),
    "config-in-latin-1": Case(raw_config(lambda raw: b'{"author":"Jos\xe9",' + raw[1:]), "malformed"),
    "config-with-names-twice": Case(raw_config(lambda raw: b'{"os":"plan9",' + raw[1:]), "'os' twice"),
    "volumes-in-small-letters": Case(raw_config(also('"volumes": {"/data": {}}'))),
    "volumes-in-both-cases": Case(
        raw_config(also('"Volumes": {"/etc": {}}, "volumes": {"/data": {}}')), "'Volumes' twice"
    ),
    "volumes-twice": Case(raw_config(also('"Volumes": {"/data": {}}, "Volumes": {"/etc": {}}')), "'Volumes' twice"),
    "volumes-with-a-long-s": Case(raw_config(also('"Volume\u017f": {"/data": {}}'))),
    "volumes-of-a-second-config": Case(
        raw_config(lambda raw: raw[:-1] + b', "Config": {"Volumes": {"/data": {}}}}'), "'config' twice"
    ),
    "config-cut": Case(raw_config(cut(0.7)), "malformed", "refuses: no JSON"),
    "config-a-list": Case(raw_config(lambda raw: b"[" + raw + b"]"), "malformed", "refuses: no JSON"),
    "created-never": says(created="0001-01-01T00:00:00Z"),
    "created-yesterday": says("parsing time", "refuses: no time", created="yesterday"),
    "history-of-less": says(history=[]),
    "history-of-more": says(history=[{"created_by": "x", "empty_layer": True}] * 9),
    "rootfs-type-missing": Case(raw_config(lambda raw: raw.replace(b'"type": "layers", ', b""))),
    "os-in-capitals": says("a system 'Linux'", "breaks down", os="Linux"),
    "os-missing": says(os=None),
    "variant-of-nobody": says(variant="v99"),
    "diff-ids-in-capitals": Case(
        raw_config(lambda raw: raw[: raw.find(b"sha256:") + 7] + raw[raw.find(b"sha256:") + 7 :].upper()),
        "where a digest belongs",
        "refuses: no digest",
    ),
    # tables of contents
    "table-of-no-tags": Case(table(lambda said: [{k: v for k, v in said[0].items() if k != "RepoTags"}])),
    "table-of-a-bad-tag": Case(table(lambda said: [said[0] | {"RepoTags": ["X Y"]}]), engine="refuses: no name"),
    "table-in-small-letters": Case(table(lambda said: [{k.lower(): v for k, v in said[0].items()}])),
    "table-with-more": Case(table(lambda said: [said[0] | {"Parent": "", "LayerSources": {}, "x": [1]}])),
    "table-with-white-space": Case(table(list, raw=b' \n[{"Config":"c.json","RepoTags":null,"Layers":["0.tar"]}]\n\n')),
    "table-with-more-behind": Case(
        table(list, raw=b'[{"Config":"c.json","RepoTags":null,"Layers":["0.tar"]}] {"x":1}'), "malformed", "loads"
    ),
    "table-empty": Case(table(lambda _: []), "malformed", "refuses: no image"),
    "table-null": Case(table(lambda _: None), "malformed", "refuses: no image"),
    "table-of-no-bytes": Case(table(list, raw=b""), "malformed", "refuses: EOF"),
    "table-of-a-missing-layer": Case(table(lambda said: [said[0] | {"Layers": ["1.tar"]}]), "missing", "refuses"),
    "table-of-a-missing-config": Case(table(lambda said: [said[0] | {"Config": "d.json"}]), "missing", "refuses"),
    "table-of-a-layer-more": Case(
        table(lambda said: [said[0] | {"Layers": ["0.tar", "0.tar"]}]), "2 layers", "refuses"
    ),
    "table-of-a-layer-outside": Case(
        table(lambda said: [said[0] | {"Layers": ["../0.tar"]}]), "outside its root", "refuses"
    ),
    # what is no layer
    "layer-of-words": Case(layer_is(lambda _: b"These are words. " * 100, proven=False), "damaged", "refuses"),
    "layer-of-a-zip": Case(layer_is(lambda _: b"PK\3\4" + bytes(1000), proven=False), "no tar", "refuses"),
    "layer-cut": Case(layer_is(lambda data: data[:700], proven=False), "ends too early", "refuses"),
    "layer-packed-and-cut": Case(layer_is(lambda data: gzip.compress(data)[:-20]), "gzip data is corrupt", "refuses"),
    "layer-packed-and-damaged": Case(
        layer_is(lambda data: gzip.compress(data)[:-8] + b"12345678"), "gzip data is corrupt", "refuses"
    ),
    "layer-packed-twice": Case(layer_is(lambda data: gzip.compress(gzip.compress(data))), "tar archive", "refuses"),
    "layer-of-another": Case(layer_is(lambda data: data + bytes(512)), "not what its digest", "refuses"),
    "layer-damaged": Case(layer_is(flipped), "not what its digest|damaged", "refuses"),
    # archives
    "archive-of-nothing": Case(outer(lambda _: b""), "is empty", "refuses"),
    "archive-of-zeros": Case(outer(lambda _: bytes(10240)), "no tar", "refuses"),
    "archive-cut": Case(outer(cut(0.6)), "ends too early", "refuses"),
    "archive-packed-and-cut": Case(outer(lambda data: gzip.compress(data)[:-100]), "gzip data is corrupt", "refuses"),
    "archive-of-a-disk": Case(outer(lambda _: b"QFI\xfb" + bytes(5000)), "no tar", "refuses"),
    "archive-of-a-volume": Case(
        outer(lambda data: header("my backup", b"V", 0) + data), "does not unpack", "refuses: type 86"
    ),
    # layouts
    "layout-without-images": Case(lambda m: oci_layout([], []), "no container image", NO_LAYOUT),
    "layout-of-a-wrong-size": Case(
        layout_of(lambda said: said["config"].update(size=1)), "not what its digest", NO_LAYOUT
    ),
    "layout-of-schema-1": Case(
        lambda m: oci_layout(
            [pointer(b'{"schemaVersion":1,"fsLayers":[],"history":[]}')],
            [b'{"schemaVersion":1,"fsLayers":[],"history":[]}'],
        ),
        "malformed",
        NO_LAYOUT,
    ),
    "layout-with-urls": Case(
        layout_of(lambda said: said["layers"][0].update(urls=["https://x.invalid/l"])), engine=NO_LAYOUT
    ),
    "layout-of-empty-layers": Case(layout_of(lambda said: said.update(layers=[])), "0 layers", NO_LAYOUT),
    # entries of layers
    "volume-label": Case(raw_layer(header("my backup", b"V", 0), file("etc/x")), "does not unpack", "refuses: type 86"),
    "incremental": Case(raw_layer(header("etc/", b"D", 0), file("etc/x")), "does not unpack", "refuses: type 68"),
    "hard-link-before-its-file": Case(
        with_entries(entry("etc/b", tarfile.LNKTYPE, "etc/a"), ("etc/a", b"x")), "no such file", "refuses: no file"
    ),
    "hard-link-to-a-lower-layer": Case(
        with_entries(entry("etc/hard", tarfile.LNKTYPE, "bin/busybox")), "no such file", "refuses: no file"
    ),
    "hard-link-to-a-link": Case(
        with_entries(entry("etc/a", tarfile.SYMTYPE, "b"), entry("etc/hard", tarfile.LNKTYPE, "etc/a"))
    ),
    "link-of-4000": Case(with_entries(entry("etc/long", tarfile.SYMTYPE, "x/" * 2000))),
    "whiteout-then-file": Case(with_entries(("etc/.wh.new", b""), ("etc/new", b"x"))),
    "file-then-whiteout": Case(with_entries(("etc/new", b"x"), ("etc/.wh.new", b"")), "file exists", "refuses"),
    "file-then-opaque": Case(with_entries(("srv/new", b"x"), ("srv/.wh..wh..opq", b""))),
    "directory-becomes-link": Case(
        lambda m: save(m, [tar(m.root()), tar([entry("usr", tarfile.SYMTYPE, "etc")]), tar([("etc/x", b"1")])])
    ),
    "root-of-nobody": Case(with_entries(entry("./", tarfile.DIRTYPE, mode=0o700))),
    "mode-of-more": Case(with_entries(entry("etc/m", mode=0o7777))),
    "time-far-away": Case(raw_layer(pax(("mtime", b"99999999999")), file("etc/future"))),
    "time-before": Case(raw_layer(pax(("mtime", b"-99999999999.5")), file("etc/past"))),
    "attributes-of-selinux": Case(
        raw_layer(pax(("SCHILY.xattr.security.selinux", b"system_u:object_r:etc_t:s0\0")), file("etc/s"))
    ),
    "attributes-of-posix": Case(
        raw_layer(
            pax(
                (
                    "SCHILY.xattr.system.posix_acl_access",
                    b"\2\0\0\0\1\0\6\0\xff\xff\xff\xff\4\0\4\0\xff\xff\xff\xff\x20\0\4\0\xff\xff\xff\xff",
                )
            ),
            file("etc/a"),
        )
    ),
    "name-of-256": Case(with_entries(("etc/" + "n" * 256, b"x")), "too long", "refuses: too long"),
    "twice-in-a-layer": Case(with_entries(("etc/twice", b"1"), ("etc/twice", b"2")), DUPLICATES, "refuses"),
    "directory-twice": Case(
        with_entries(entry("srv", tarfile.DIRTYPE), ("srv/a", b"1"), entry("srv/", tarfile.DIRTYPE)),
        DUPLICATES,
        "refuses",
    ),
    "twice-by-another-path": Case(with_entries(("etc/twice", b"1"), ("./etc//twice", b"2")), DUPLICATES, "refuses"),
    "rootfs-appended": Case(appended, DUPLICATES, engine=IMPORTED),
    "rootfs-with-a-volume-label": Case(
        lambda m: header("my backup", b"V", 0) + tar(m.root(prefix="./")), "does not unpack", engine=IMPORTED
    ),
    "rootfs-incremental": Case(
        lambda m: header("./", b"D", 0) + tar(m.root(prefix="./")), "does not unpack", engine=IMPORTED
    ),
}

# Those that differ in what runs
RARE_RUNNING = [
    *("env-empty", "env-name-with-a-blank", "env-null", "entrypoint-empty-list", "entrypoint-one-empty-word"),
    *("user-empty", "user-name-and-group", "user-with-an-empty-group", "directory-with-dots", "directory-odd"),
    *("volume-below-a-volume", "volume-of-a-file", "ports-of-nobody", "health-empty", "health-of-nobody", "terminal"),
    *("stop-timeout-negative", "network-disabled", "names-of-a-host", "on-build", "labels-of-ours", "config-capitals"),
    *("os-missing", "volumes-in-small-letters", "volumes-with-a-long-s", "directory-becomes-link", "root-of-nobody"),
]
