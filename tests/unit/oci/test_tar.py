# SPDX-License-Identifier: Apache-2.0
"""Ordinary tars are read as ordinary tools wrote them; what could be understood in two ways is refused."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile

import pytest

from dockstack.oci import tar
from dockstack.oci.documents import ImageRejected
from dockstack.oci.tar_stream import TarStream
from hostile_archives import END, file, header, padded, pax

pytestmark = pytest.mark.unit

LONG = "d/" * 120 + "name-é"


def entries(data: bytes, piece: int = 700, *, complete: bool = True) -> list[tar.Entry]:
    chunks = (data[start : start + piece] for start in range(0, len(data), piece))
    return list(tar.tar_entries(TarStream(chunks), complete=complete))


def tree(tmp_path):
    """Files of every kind that a tool may meet."""
    root = tmp_path / "root"
    (root / LONG).parent.mkdir(parents=True)
    (root / LONG).write_bytes(b"x" * 1000)
    (root / "hard").hardlink_to(root / LONG)
    (root / "soft").symlink_to("../" * 60 + "etc")
    (root / "empty").write_bytes(b"")
    with (root / "sparse").open("wb") as sparse:
        for place in range(40):
            sparse.seek(place << 18)
            sparse.write(b"data" * 1024)
        sparse.truncate(20 << 20)
    return root


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
@pytest.mark.parametrize("sparse", [False, True])
def test_what_gnu_tar_writes_is_read_as_python_reads_it(form, sparse, tmp_path):
    root = tree(tmp_path)
    if form in ("v7", "ustar"):
        shutil.rmtree(root / "d")
        (root / "hard").unlink()
        (root / "soft").unlink()
    if sparse and form in ("v7", "ustar"):
        pytest.skip("GNU tar has no sparse files in this form")
    command = ["tar", f"--format={form}", *(["--sparse"] if sparse else []), "-C", root, "-cf", "-", "."]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    if sparse and form != "posix":
        with pytest.raises(ImageRejected, match="own form, which the engine does not unpack"):
            entries(data)
        return
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape", encoding="utf-8") as archive:
        expected = [(m.name.rstrip("/"), m.linkname, m.size) for m in archive]
    assert [(e.name.rstrip("/"), e.link, e.size) for e in entries(data)] == expected


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("piece", [1, 511, 512, 10_000])
def test_what_python_writes_is_read(form, piece):
    buffer = io.BytesIO()
    names = ["a", "b" * 150 + "/c"] if form == tarfile.USTAR_FORMAT else ["a", "é" * 200, "./d/" + "e/" * 300]
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()[: len(name)]))
    assert [(e.name.rstrip("/"), e.size) for e in entries(buffer.getvalue(), piece)] == [
        (name.rstrip("/"), len(name)) for name in names
    ]


@pytest.mark.parametrize("version", ["0.0", "0.1"])
def test_the_older_sparse_forms_of_pax_are_refused(version, tmp_path):
    form = ["--format=posix", "--sparse", f"--sparse-version={version}"]
    command = ["tar", *form, "-C", tree(tmp_path), "-cf", "-", "."]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    with pytest.raises(ImageRejected, match="sparse file in an old pax form"):
        entries(data)


SPARSE = (("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.name", b"real/name"))


def sparse_file(table: bytes, data: bytes = b"", size: bytes = b"4096") -> bytes:
    return pax(*SPARSE, ("GNU.sparse.realsize", size)) + file("GNUSparseFile.0/f", padded(table) + data)


def test_a_sparse_file_has_the_name_and_size_that_it_unpacks_to():
    [found] = entries(sparse_file(b"1\n1024\n5\n", b"hello") + END)
    assert (found.name, found.size, found.stored) == ("real/name", 4096, 5)


@pytest.mark.parametrize(
    ("table", "data"),
    [
        (b"1\n0\n", b""),  # ends too early
        (b"1\n0\n4\n", b"hello"),  # less than there is
        (b"1\n4095\n5\n", b"hello"),  # beyond the end
        (b"2\n8\n2\n0\n3\n", b"hello"),  # backwards
        (b"1\n-1\n5\n", b"hello"),
        (b"1\n0x1\n5\n", b"hello"),
        (b"x1\n0\n5\n", b"hello"),
        (b"999999999999999999\n" * 2000, b""),  # a map without end
    ],
)
def test_a_map_that_lies_is_refused(table, data):
    with pytest.raises(ImageRejected):
        entries(sparse_file(table, data) + END)


def test_an_entry_s_data_may_be_read_or_left():
    stream = TarStream(iter([file("a", b"first") + file("b", b"second" * 200) + END]))
    read = {
        e.name: b"".join(stream.pieces(e.stored if e.name == "b" else 2))
        for e in tar.tar_entries(stream, complete=True)
    }
    assert read == {"a": b"fi", "b": b"second" * 200}


def test_a_header_of_eight_gigabytes_is_told_by_its_number():
    raw = bytearray(header("f", b"0", 0))
    raw[124:136] = b"\x80" + (1 << 40).to_bytes(11, "big")
    raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + sum(raw[156:]) + 8 * 32)
    stream = TarStream(iter([bytes(raw)]))
    assert next(tar.tar_entries(stream, complete=True)).size == 1 << 40


@pytest.mark.parametrize(
    "data",
    [
        pax(("path", b"a")) + pax(("path", b"b")) + file(),
        header("n", b"L", 2) + padded(b"a\0") + pax(("path", b"b")) + file(),
        header("n", b"L", 2) + padded(b"a\0") + header("n", b"L", 2) + padded(b"b\0") + file(),
        header("n", b"K", 2) + padded(b"a\0") + pax(("linkpath", b"b")) + file(),
        pax(("size", b"1"), kind=b"g") + file(),
        file() + bytes(512) + file(),
        pax(("size", b"+1")) + file(),
    ],
)
def test_what_two_readers_understand_differently_is_refused(data):
    with pytest.raises(ImageRejected):
        entries(data + END)


@pytest.mark.parametrize("end", [b"", bytes(512), END, END + bytes(9000), END + b"rest"])
def test_the_end_mark_may_be_short_or_padded(end):
    assert [e.name for e in entries(file() + end, complete=bool(end))] == ["f"]


def test_an_archive_that_is_cut_off_is_refused():
    with pytest.raises(ImageRejected, match="too early"):
        entries(file())
    with pytest.raises(ImageRejected, match="too early"):
        entries(file("f", b"x" * 5000)[:3000], complete=False)
