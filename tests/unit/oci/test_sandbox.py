# SPDX-License-Identifier: Apache-2.0
"""Images are checked elsewhere: verdicts come back whole; what ends a check is told from the host's trouble."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from dockstack import confinement
from dockstack.deploy.node import processes
from dockstack.oci import normalise, sandbox
from dockstack.oci.documents import ImageRejected
from dockstack.oci.process import ImageConfig
from dockstack.oci.sandbox import CannotCheck, InputTooSlow
from dockstack.oci.spool import WorkspaceFull
from dockstack.oci.streams import ImageLimits
from image_archives import COMPRESS, HOSTILE, docker_save, oci_archive, pieces, rootfs, sample_layer, tar

pytestmark = pytest.mark.unit

LIMITS = ImageLimits(max_unpacked_bytes=8 << 20, max_spooled_bytes=512 << 20)
DATA = docker_save([sample_layer()])


def run(chunks, workspace: Path, *, timeout: float = 120, limits: ImageLimits = LIMITS):
    data = pieces(chunks) if isinstance(chunks, bytes) else chunks
    with sandbox.normalise(data, architecture="x86_64", limits=limits, workspace=workspace, timeout=timeout) as image:
        assert list(workspace.iterdir()) == [], "a spool has a name"
        return image.engine_id, image.config, image.size, b"".join(image.stream())


@pytest.mark.parametrize(
    "data", [DATA, COMPRESS["gzip"](oci_archive([sample_layer(), sample_layer("2")])), COMPRESS["zstd"](rootfs())]
)
def test_the_verdict_is_the_same_as_here(data, tmp_path):
    with normalise.normalise(pieces(data), architecture="x86_64", limits=LIMITS, workspace=tmp_path) as image:
        assert run(data, tmp_path) == (image.engine_id, image.config, image.size, b"".join(image.stream()))


@pytest.mark.parametrize("name", ["traversal-in-layer", "cut-gzip", "bad-command", "gzip-bomb"])
def test_a_refusal_comes_back_whole(name, tmp_path):
    build, speaks_of = HOSTILE[name]
    with pytest.raises(ImageRejected, match=speaks_of) as caught:
        run(build(), tmp_path)
    assert caught.value.resolution
    assert list(tmp_path.iterdir()) == []


def test_a_refused_download_is_hung_up_on(tmp_path):
    hung_up = threading.Event()

    def endless():
        try:
            while True:
                yield b"no tar at all" * 5000
        finally:
            hung_up.set()

    with pytest.raises(ImageRejected, match="no tar"):
        run(endless(), tmp_path)
    assert hung_up.wait(60)


def test_a_failing_download_is_the_callers_to_see(tmp_path):
    def broken():
        yield DATA[:5000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        run(broken(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def find_checker() -> int:
    children = (each for each in processes.snapshot().values() if each.parent == os.getpid())
    found = [each for each in children if "dockstack.oci" in processes.arguments(each.pid)]
    return max(found, key=lambda each: (each.started, each.pid)).pid


def waiting_input(pid: int) -> int:
    """Return how many bytes a process has not read yet."""
    pipe = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    try:
        return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]
    finally:
        os.close(pipe)


def seen_while_checking(tmp_path, look, timeout: float = 120):
    """Call ``look`` with the process that checks, once it has read something and waits for more."""

    def download():
        yield bytes(DATA[:1024])
        pid = find_checker()
        while waiting_input(pid):  # it says that it is ready before it reads
            time.sleep(0.01)
        look(pid)
        yield DATA[1024:]

    return run(download(), tmp_path, timeout=timeout)


def test_what_checks_can_open_and_start_nothing(tmp_path):
    seen = {}

    def look(pid):
        seen["limits"] = Path(f"/proc/{pid}/limits").read_text().splitlines()
        seen["status"] = Path(f"/proc/{pid}/status").read_text()
        seen["files"] = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]

    seen_while_checking(tmp_path, look)
    limits = {line[:26].strip(): line[26:].split()[:2] for line in seen["limits"]}
    for name in ("Max open files", "Max processes", "Max core file size"):
        assert limits[name] == ["0", "0"]
    assert int(limits["Max data size"][1]) < 256 << 20
    assert int(limits["Max address space"][1]) < 512 << 20
    assert int(limits["Max cpu time"][0]) <= 10
    assert int(limits["Max file size"][1]) < 1 << 30
    uids = next(line.split()[1:] for line in seen["status"].splitlines() if line.startswith("Uid:"))
    assert "0" not in uids
    assert not any("socket" in file for file in seen["files"])
    # libffi 3.5 keeps a descriptor of its own library, from which it maps trampolines.
    assert len([file for file in seen["files"] if "/libffi.so." not in file]) == 5, "its pipes and two spools"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGXCPU])
def test_a_check_that_breaks_down_is_the_images_fault(how, tmp_path):
    with pytest.raises(ImageRejected, match=r"break down|more computing") as caught:
        seen_while_checking(tmp_path, lambda pid: os.kill(pid, how))
    assert caught.value.resolution
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_takes_too_long_is_the_images_fault(tmp_path):
    """Its whole input came, so nobody else is to blame."""
    stopped = []

    def stop(pid):
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)

    with pytest.raises(ImageRejected, match="could not be checked within 10 s"):
        seen_while_checking(tmp_path, stop, 10)
    with pytest.raises(ProcessLookupError):
        os.kill(stopped[0], 0)


def test_a_download_that_falls_silent_is_not_the_images_fault(tmp_path):
    gate = threading.Event()

    def silent():
        yield DATA[:1000]
        assert gate.wait(120)

    try:
        with pytest.raises(InputTooSlow):
            run(silent(), tmp_path, timeout=2)
    finally:
        gate.set()


def run_instead(monkeypatch, code: str) -> None:
    """Have other code run in the place of the check, as whoever takes it over has."""

    def start(program, arguments, files, *, piped):
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=files,
            env={"PYTHONPATH": str(Path(confinement.__file__).parent.parent)},
        )

    monkeypatch.setattr(confinement, "start", start)


def test_more_memory_than_a_check_may_have_is_the_images_fault(tmp_path, monkeypatch):
    run_instead(
        monkeypatch, "from dockstack.oci import __main__ as m; m._check = lambda *a: b'x' * (1 << 30); m.main()"
    )
    with pytest.raises(ImageRejected, match="more than 224 MiB of memory"):
        run(DATA, tmp_path)


def test_a_process_that_closes_its_output_and_stays_is_ended(tmp_path, monkeypatch):
    run_instead(monkeypatch, "import os, sys, time; os.write(1, b'\\n'); os.close(1); sys.stdin.read(); time.sleep(50)")
    with pytest.raises(ImageRejected, match="could not be checked within 3 s"):
        run(DATA, tmp_path, timeout=3)


@pytest.mark.parametrize("program", ["dockstack.no_such_module", "this"])
def test_a_host_that_cannot_check_says_so(program, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "_PROGRAM", program)
    with pytest.raises(CannotCheck, match="cannot check images"):
        run(DATA, tmp_path)


def test_a_process_that_does_not_start_is_the_hosts_trouble(tmp_path, monkeypatch):
    def refuse(*_arguments, **_more):
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(confinement, "start", refuse)
    with pytest.raises(CannotCheck):
        run(DATA, tmp_path)


def test_a_workspace_that_is_not_there_is_the_hosts_trouble(tmp_path):
    with pytest.raises(CannotCheck):
        run(DATA, tmp_path / "absent")


def test_a_full_workspace_is_the_hosts_trouble(tmp_path):
    limits = ImageLimits(max_unpacked_bytes=8 << 20, max_spooled_bytes=(64 << 20))
    full = Path("/dev/full")
    assert full.exists()
    with full.open("r+b", buffering=0) as file:
        spools = (file.fileno(), file.fileno())
        check = sandbox._Check({"task": "image", "architecture": "x86_64"}, limits, spools, 60)
        with pytest.raises(WorkspaceFull, match="no room"):
            check.run(pieces(DATA))


def sound(**more) -> bytes:
    """An answer as of a sound image."""
    process = asdict(ImageConfig()) | {"command": [], "entrypoint": [], "volumes": []}
    image = {"engine_id": "sha256:" + "0" * 64, "config": process, "size": 1, "layers": [], "extents": [[0, 0, 0, ""]]}
    return b"\n" + json.dumps({"image": image | more}).encode()


SENSELESS = {
    "a-list": b"\n[]",
    "no-json": b"\n{",
    "no-image": b'\n{"image": {}}',
    "no-text": b'\n{"rejected": 5}',
    "deep": b"\n" + b"[" * 100_000,
    "infinite": sound(size=float("inf")),
    "beyond-a-files-end": sound(extents=[[0, 0, 1 << 40, ""]]),
    "before-a-files-start": sound(extents=[[1, -1, 1, ""]]),
    "less-than-nothing": sound(extents=[[1, 0, -1, ""]]),
    "another-file": sound(extents=[[2, 0, 0, ""]]),
    "a-file-from-the-end": sound(extents=[[-1, 0, 0, ""]]),
}


@pytest.mark.parametrize("said", SENSELESS.values(), ids=SENSELESS)
def test_an_answer_without_sense_is_a_refusal(said, tmp_path, monkeypatch):
    """Whoever took the other process over is not believed, and not the next host's guest."""
    monkeypatch.setattr(sandbox._Check, "_listen", lambda *_: said)
    with pytest.raises(ImageRejected, match="no sensible answer"):
        run(DATA, tmp_path)


def test_an_answer_with_sense_is_taken(tmp_path, monkeypatch):
    """So that what is refused above is refused for what is said there."""
    monkeypatch.setattr(sandbox._Check, "_listen", lambda *_: sound())
    assert run(DATA, tmp_path) == ("sha256:" + "0" * 64, ImageConfig(), 1, b"")


def test_a_large_image_does_not_pass_through_this_process_at_once(tmp_path):
    data = docker_save([tar([(f"f{index}", os.urandom(1 << 20)) for index in range(6)])])
    with sandbox.normalise(pieces(data), architecture="x86_64", limits=LIMITS, workspace=tmp_path, timeout=60) as image:
        assert max(len(chunk) for chunk in image.stream()) <= 1 << 20
