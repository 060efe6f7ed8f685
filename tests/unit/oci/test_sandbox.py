# SPDX-License-Identifier: Apache-2.0
"""Images are checked elsewhere: verdicts come back whole; what ends a check is told from the host's trouble."""

from __future__ import annotations

import fcntl
import io
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import tarfile
import termios
import threading
import time
from pathlib import Path

import pytest

from dockstack import confinement
from dockstack.deploy.node import processes
from dockstack.oci import normalise, sandbox
from dockstack.oci.documents import ImageRejected
from dockstack.oci.sandbox import CannotCheck, InputTooSlow
from dockstack.oci.spool import WorkspaceFull
from dockstack.oci.streams import ImageLimits
from image_archives import (
    COMPRESS,
    HOSTILE,
    config,
    docker_save,
    multi_platform,
    oci_archive,
    pieces,
    rootfs,
    sample_layer,
    sha256,
    tar,
)

pytestmark = pytest.mark.unit

LIMITS = ImageLimits(max_unpacked_bytes=8 << 20, max_spooled_bytes=512 << 20)
DATA = docker_save([sample_layer()])


def run(chunks, workspace: Path, *, timeout: float = 120, limits: ImageLimits = LIMITS):
    data = pieces(chunks) if isinstance(chunks, bytes) else chunks
    with sandbox.normalise(data, architecture="x86_64", limits=limits, workspace=workspace, timeout=timeout) as image:
        assert list(workspace.iterdir()) == [], "a spool has a name"
        return image.verdict.engine_id, image.verdict.config, image.verdict.size, b"".join(image.stream())


@pytest.mark.parametrize(
    "data", [DATA, COMPRESS["gzip"](oci_archive([sample_layer(), sample_layer("2")])), COMPRESS["zstd"](rootfs())]
)
def test_the_verdict_is_the_same_as_here(data, tmp_path):
    with normalise.normalise(pieces(data), architecture="x86_64", limits=LIMITS, workspace=tmp_path) as image:
        verdict = image.verdict
        assert run(data, tmp_path) == (verdict.engine_id, verdict.config, verdict.size, b"".join(image.stream()))


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
    assert len(seen["files"]) == 5, "its pipes and two spools"


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
            next(check.run(pieces(DATA)))


SENSELESS = {
    "a-list": b"[]",
    "a-number": b"5",
    "no-json": b"{",
    "no-image": b'{"image": {}}',
    "no-text": b'{"rejected": 5}',
    "deep": b"[" * 100_000,
    "beyond-the-end": b"[0, 0, 1]",
    "before-the-start": b"[0, -1, 1]",
    "another-file": b"[2, 0, 0]",
    "the-last-file": b"[-1, 0, 0]",
    "infinite": b"[0, 0, Infinity]",
    "endless": b"\n".join([b"[0, 0, 0]"] * 200_000),
    "no-end": b'{"image":' * 200_000,
}


@pytest.mark.parametrize("said", SENSELESS.values(), ids=SENSELESS)
def test_an_answer_without_sense_is_a_refusal(said, tmp_path, monkeypatch):
    """Whoever took the other process over is not believed, and not the next host's guest."""
    (workspace := tmp_path / "workspace").mkdir()
    (tmp_path / "said").write_bytes(said)
    code = f"import sys; sys.stdout.buffer.write(b'\\n' + open('{tmp_path}/said', 'rb').read() + b'\\n')"
    run_instead(monkeypatch, code)
    with pytest.raises(ImageRejected, match="no sensible answer"):
        run(DATA, workspace)


def test_more_than_an_image_may_have_is_not_passed_on(tmp_path, monkeypatch):
    code = (
        "import os, json, sys, time\n"
        "os.ftruncate(json.loads(sys.argv[1])['spools'][0], 1 << 40)\n"
        "print('\\n[0, 0, 1048576]\\n[0, 0, 1073741824]', flush=True)"
    )
    run_instead(monkeypatch, code)
    with sandbox.normalise(pieces(DATA), architecture="", limits=LIMITS, workspace=tmp_path, timeout=60) as image:
        stream = image.stream()
        assert len(next(stream)) == 1 << 20
        with pytest.raises(ImageRejected, match="no sensible answer"):
            next(stream)


def test_a_process_that_closes_its_output_and_stays_is_ended(tmp_path, monkeypatch):
    run_instead(
        monkeypatch, "import os, sys, time; os.write(1, b'\\n'); os.close(1); sys.stdin.read(); time.sleep(600)"
    )
    with pytest.raises(ImageRejected, match="could not be checked within 2 s"):
        run(DATA, tmp_path, timeout=2)


BIG = tar([(f"f{index}", os.urandom(1 << 20)) for index in range(6)])


def held_back(data: bytes, gate: threading.Event):
    """A download whose end comes only when the gate is open."""
    yield from pieces(data[:-3000])
    assert gate.wait(60), "nothing went ahead"
    yield from pieces(data[-3000:])


def received(data: bytes, workspace: Path, limits: ImageLimits = LIMITS) -> tuple[str, dict[str, bytes]]:
    """Return the engine's id and all files of the archive for it; the download ends when a good part has come out."""
    gate, archive = threading.Event(), b""
    with sandbox.normalise(
        held_back(data, gate), architecture="x86_64", limits=limits, workspace=workspace, timeout=120
    ) as image:
        for chunk in image.stream():
            archive += chunk
            if len(archive) > 4 << 20:
                gate.set()
        engine_id = image.verdict.engine_id
        assert b"".join(image.stream()) == archive
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        return engine_id, {member.name: files.extractfile(member).read() for member in files}


@pytest.mark.parametrize("layers", [[BIG], [BIG + bytes(100), sample_layer()], [sample_layer(), BIG, BIG]])
@pytest.mark.parametrize(("outer", "inner"), [("plain", "plain"), ("zstd", "plain"), ("plain", "gzip")])
def test_a_large_layer_goes_out_before_the_end_came_in(layers, outer, inner, tmp_path):
    data = COMPRESS[outer](docker_save(layers, compress=inner))
    limits = ImageLimits(max_unpacked_bytes=20 << 20)
    engine_id, files = received(data, tmp_path, limits)
    assert engine_id == "sha256:" + sha256(config(layers))
    [manifest] = json.loads(files["manifest.json"])
    assert [files[name] for name in manifest["Layers"]] == layers
    assert files[manifest["Config"]] == config(layers)
    ahead = itertools.takewhile(lambda name: name.startswith("layer-"), files)
    assert [files[name] for name in ahead] == [layer for layer in layers if len(layer) > 4 << 20]


def test_what_went_ahead_and_was_not_needed_is_bounded(tmp_path):
    """The first platform's layer is another host's; after it, what this image may unpack to is used up."""
    layers_of = {"s390x": [BIG], "amd64": [BIG[:-10240] + tar([("more", b"x")])]}
    data = multi_platform(layers_of, compress="plain")
    _, files = received(data, tmp_path)
    assert [name for name in files if name.startswith("layer-")] == ["layer-0"]
    [manifest] = json.loads(files["manifest.json"])
    assert [files[name] for name in manifest["Layers"]] == layers_of["amd64"]


REFUSED = {
    "hostile-at-its-end": lambda: docker_save([BIG[: 6 * ((1 << 20) + 512)] + tar([("../../etc/cron.d/x", b"x")])]),
    "wrong-digest": lambda: docker_save([BIG], raw_config=config([sample_layer()])),
    "cut-off": lambda: docker_save([BIG])[: -(2 << 20)],
    "too-large": lambda: docker_save([BIG, BIG[:-10240] + tar([("more", b"x")])]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_went_ahead_of_a_refusal_is_no_image(name, tmp_path):
    archive: list[bytes] = []
    with sandbox.normalise(
        pieces(REFUSED[name]()), architecture="x86_64", limits=LIMITS, workspace=tmp_path, timeout=120
    ) as image:
        with pytest.raises(ImageRejected):
            archive.extend(image.stream())
        assert archive
    assert b"manifest.json" not in b"".join(archive)
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_breaks_down_after_something_went_ahead_ends_the_stream(tmp_path):
    gate = threading.Event()
    data = held_back(docker_save([BIG]), gate)
    with sandbox.normalise(data, architecture="x86_64", limits=LIMITS, workspace=tmp_path, timeout=120) as image:
        os.kill(find_checker(), signal.SIGKILL)
        with pytest.raises(ImageRejected, match="break down"):
            list(image.stream())
        gate.set()


def test_whoever_loses_interest_ends_the_check(tmp_path):
    gate = threading.Event()
    data = held_back(docker_save([BIG]), gate)
    with sandbox.normalise(data, architecture="x86_64", limits=LIMITS, workspace=tmp_path, timeout=120) as image:
        assert next(image.stream())
        pid = find_checker()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    gate.set()


def test_a_large_image_does_not_pass_through_this_process_at_once(tmp_path):
    data = docker_save([tar([(f"f{index}", os.urandom(1 << 20)) for index in range(6)])])
    with sandbox.normalise(pieces(data), architecture="x86_64", limits=LIMITS, workspace=tmp_path, timeout=60) as image:
        assert max(len(chunk) for chunk in image.stream()) <= 1 << 20
