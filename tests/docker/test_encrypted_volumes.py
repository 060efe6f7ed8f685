# SPDX-License-Identifier: Apache-2.0
"""Encrypted volumes in real containers: real LUKS, by the machine's own qemu-storage-daemon and cryptsetup."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from private_engine import wait_for
from server_lab import docker_archive, lab_host
from volume_lab import VolumeLab

from dockstack.compute.flows import lifecycle, volumes
from dockstack.compute.model import Encryption, Volume
from dockstack.compute.network import ovs
from dockstack.compute.privileged import decryption, loops, storage_daemon
from dockstack.compute.privileged import volumes as privileged
from dockstack.compute.volumes import connector, encryption
from dockstack.errors import DockstackError

MIB = 1 << 20
SECRET = b"no plaintext on the disk "
CIPHER = ("aes-xts-plain64", 256)
KEY = os.urandom(32).hex().encode()

pytestmark = pytest.mark.skipif(
    bool(encryption.find_obstacle()), reason=f"this machine decrypts nothing: {encryption.find_obstacle()}"
)


class Killed(BaseException):
    """kill -9: no undo runs."""


@dataclass
class Said:
    """What Nova, Cinder and the key manager say.

    Attributes:
        attachments: which volumes servers have.
        key: of every volume.
        asked: of which volumes the key was asked for.
    """

    attachments: dict[str, list[Volume]] = field(default_factory=dict)
    key: bytes = KEY
    asked: list[str] = field(default_factory=list)

    def tell(self, volume_id: str) -> Encryption:
        self.asked.append(volume_id)
        return Encryption(self.key)


@pytest.fixture
def said():
    return Said()


@pytest.fixture
def host(private_engine, engine, tmp_path, monkeypatch, said):
    for name in ("plug", "unplug", "unplug_device"):
        monkeypatch.setattr(ovs, name, lambda *_arguments: None)
    held, opened = tmp_path / "held", Path(tempfile.mkdtemp())  # the paths of sockets are short
    for module in (privileged, volumes):
        monkeypatch.setattr(module, "VOLUMES_DIRECTORY", held)
    for module in (decryption, volumes):
        monkeypatch.setattr(module, "DECRYPTED_DIRECTORY", opened)
    monkeypatch.setattr(connector, "connect", lambda volume: volume.connection["device_path"])
    monkeypatch.setattr(connector, "disconnect", lambda _volume: None)
    monkeypatch.setattr(connector, "tag", lambda _name: f"{os.getpid():016x}")
    host = lab_host(private_engine, private_engine.directory / "state", lambda _image: iter([docker_archive()]))
    object.__setattr__(host, "encryption", said.tell)
    object.__setattr__(host, "attachments", lambda server_uuid: tuple(said.attachments.get(server_uuid, ())))
    yield host
    for volume in decryption.list_open():
        decryption.close(volume)
    shutil.rmtree(opened)


@pytest.fixture
def server(lab, host):
    server = lab.boot()
    yield server
    lifecycle.destroy(host, server)
    assert not own_loops()
    assert not decryption.list_open()


@pytest.fixture
def volume(tmp_path):
    identity = str(uuid.uuid4())
    path = tmp_path / f"volume-{identity}"
    path.touch(0o600)
    os.truncate(path, 32 * MIB)
    return Volume(identity, "vdb", "local", {"device_path": str(path), "encrypted": True})


def own_loops():
    return [loop for loop in loops.find_all("dockstack:") if loop.label.endswith(f":{os.getpid():016x}")]


def files_of_loops() -> set[tuple[str, str]]:
    """List the loop devices of the machine and their files."""
    return {(file.parts[3], file.read_text().strip()) for file in Path("/sys/block").glob("loop*/loop/backing_file")}


def path_of(volume: Volume) -> Path:
    return Path(volume.connection["device_path"])


def process_of(volume: Volume) -> int:
    return int((Path(decryption.find_open(volume.id)).parent / "pid").read_text().split()[0])


def has_ended(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def write(lab, server) -> None:
    lab.run(server, "sh", "-c", f"yes '{SECRET.decode()}' | dd of=/dev/vdb bs=65536 count=64 conv=fsync 2>/dev/null")


def reads(lab, server) -> bool:
    return lab.run(server, "head", "-c", str(len(SECRET)), "/dev/vdb").encode() == SECRET


def test_no_plaintext_reaches_the_file(lab, host, server, volume, said) -> None:
    volumes.attach(host, server, volume)
    volumes.attach(host, server, volume)  # again
    assert said.asked == [volume.id], "one that is open needs no key"
    write(lab, server)
    assert reads(lab, server)
    process = process_of(volume)
    seen = Path(f"/proc/{process}/cmdline").read_bytes() + Path(f"/proc/{process}/environ").read_bytes()
    everything = b"".join(path.read_bytes() for path in Path(decryption.find_open(volume.id)).parent.glob("[!pm]*"))
    assert KEY not in seen + everything
    volumes.detach(host, server, volume)
    raw = path_of(volume).read_bytes()
    assert raw.startswith(b"LUKS\xba\xbe\x00\x01")
    assert SECRET not in raw
    assert KEY not in raw
    assert any(raw[2 * MIB :]), "it was written to"
    assert has_ended(process)
    assert not decryption.list_open()

    volumes.attach(host, server, volume)
    assert reads(lab, server)
    assert said.asked == [volume.id] * 2
    volumes.detach(host, server, volume)


def test_there_again_after_a_restart_and_with_its_process_dead(lab, host, server, volume, said) -> None:
    volumes.attach(host, server, volume)
    write(lab, server)
    said.attachments[server.uuid] = [volume]
    lifecycle.reboot(host, server, hard=True)
    assert reads(lab, server)
    process = process_of(volume)
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: has_ended(process), "the end of its process")
    assert lab.engine.execute(server.container_name, ["dd", "if=/dev/vdb", "of=/dev/null", "count=1"]).exit_code
    before = len(said.asked)
    lifecycle.reboot(host, server, hard=True)
    assert len(said.asked) > before, "the key is asked for again"
    assert reads(lab, server)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "asked-to-end"])
def test_opened_anew_at_once_no_dead_device_stays(host, volume, how) -> None:
    """The kernel says for a second more what the dead process said of its file; who is asked to end unmounts it."""
    before = files_of_loops()
    path = decryption.decrypt(volume.id, str(path_of(volume)), KEY, CIPHER)
    loops.make(path, f"dockstack:{volume.id}:{os.getpid():016x}")
    process = process_of(volume)
    os.kill(process, how)
    wait_for(lambda: has_ended(process), "the end of its process")
    assert decryption.decrypt(volume.id, str(path_of(volume)), KEY, CIPHER) == path
    assert not [loop for loop, file in files_of_loops() - before if file in {path, "/"}], "its name without a mount"


def test_one_that_stalls_keeps_calls_about_no_other_volume_waiting(lab, host, server, volume, said) -> None:
    """Its storage is stuck, so that its process answers nobody: not the kernel either, which asks it of its file."""
    volumes.attach(host, server, volume)
    said.attachments[server.uuid] = [volume]
    other = Volume(str(uuid.uuid4()), "vdc", "local", {"device_path": str(path_of(volume).with_name("other"))})
    path_of(other).touch()
    os.truncate(path_of(other), MIB)

    def use_other() -> None:
        volumes.attach(host, server, other)
        said.attachments[server.uuid].append(other)
        volumes.sweep(host, lambda _server: False)
        lab.run(server, "dd", "if=/dev/zero", "of=/dev/vdc", "bs=4096", "count=1", "conv=fsync")
        volumes.extend(host, server, other, MIB)
        volumes.detach(host, server, other)

    process = process_of(volume)
    seen = {"device": volume.device, "read_only": False}
    with ThreadPoolExecutor(2) as beside:
        os.kill(process, signal.SIGSTOP)
        try:
            time.sleep(1.1)  # for a second the kernel remembers what the process said of its file
            arguments = server.uuid, volume.id, str(Path(decryption.DECRYPTED_DIRECTORY, volume.id, "plain"))
            waiting = beside.submit(privileged.hold, *arguments, connector.tag(host.name), seen)
            beside.submit(use_other).result(60)
            assert not waiting.done()
        finally:
            os.kill(process, signal.SIGCONT)
        assert waiting.result(60)["size"]
    said.attachments.clear()


def test_it_grows_in_use(lab, host, server, volume) -> None:
    volumes.attach(host, server, volume)
    before = int(lab.run(server, "cat", "/sys/class/block/vdb/size"))
    os.truncate(path_of(volume), 64 * MIB)
    volumes.extend(host, server, volume, 64 * MIB)
    assert int(lab.run(server, "cat", "/sys/class/block/vdb/size")) == before + 32 * MIB // 512
    lab.run(server, "dd", "if=/dev/zero", "of=/dev/vdb", "bs=1M", "seek=60", "count=1", "conv=fsync")


def test_what_cannot_be_opened_stays_as_it_was(host, server, volume, said) -> None:
    path = path_of(volume)
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(b"somebody's")
    kept = path.read_bytes()
    with pytest.raises(DockstackError, match="not encrypted"):
        volumes.attach(host, server, volume)
    assert path.read_bytes() == kept
    assert not decryption.list_open()
    assert not privileged.list_held()

    os.truncate(path, 0)
    os.truncate(path, 32 * MIB)
    volumes.attach(host, server, volume)
    volumes.detach(host, server, volume)
    kept = path.read_bytes()
    said.key = KEY[::-1]
    with pytest.raises(DockstackError, match="Invalid password"):
        volumes.attach(host, server, volume)
    assert path.read_bytes() == kept
    assert not decryption.list_open()


def test_the_broker_mounts_it(lab, host, tmp_path, volume) -> None:
    plain = decryption.decrypt(volume.id, str(path_of(volume)), KEY, CIPHER)
    broker = VolumeLab(lab, tmp_path)
    try:
        broker.start_both()
        server, held = broker.boot(), broker.over(volume.id, Path(plain))
        broker.attach(server, held)
        broker.must(server, "mkdir -p /mnt && /usr/own/mkfs.ext4 -q -F /dev/vdb && /usr/own/mount /dev/vdb /mnt")
        broker.must(server, f"echo '{SECRET.decode()}' > /mnt/file && sync && /usr/own/umount /mnt")
        broker.must(server, "/usr/own/mount /dev/vdb /mnt && grep plaintext /mnt/file")
    finally:
        lab.destroy()
        broker.clean()
    decryption.close(volume.id)
    assert SECRET not in path_of(volume).read_bytes()


def test_the_broker_finds_others_while_one_stalls(lab, host, tmp_path, volume) -> None:
    plain = decryption.decrypt(volume.id, str(path_of(volume)), KEY, CIPHER)
    broker, process = VolumeLab(lab, tmp_path), process_of(volume)
    broker.over(volume.id, Path(plain))
    held = broker.volume()
    with ThreadPoolExecutor(1) as beside:
        os.kill(process, signal.SIGSTOP)
        try:
            time.sleep(1.1)  # for a second the kernel remembers what the process said of its file
            assert beside.submit(broker.mounted, held).result(20) is None
        finally:
            os.kill(process, signal.SIGCONT)
    broker.clean()


def test_with_no_more_rights_than_the_helper_has(volume, tmp_path) -> None:
    """Through privsep's own daemon, in which there are other threads, and as nova-compute runs it."""
    directory = Path(tempfile.mkdtemp())
    helper = Path(sys.executable).with_name("privsep-helper")
    # The helper is a process of its own, and must not look where this machine's own volumes are.
    (tmp_path / "sitecustomize.py").write_text(
        "from pathlib import Path\nfrom dockstack import names\n"
        f"names.VOLUMES_DIRECTORY = names.DECRYPTED_DIRECTORY = Path({str(directory)!r})\n"
    )
    paths = (tmp_path, Path(decryption.__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    arguments = [str(helper), str(directory), volume.id, str(path_of(volume))]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
        cwd=tmp_path,
    )
    assert done.stdout.endswith("whole\n"), done.stdout + done.stderr
    assert KEY.decode() not in done.stdout + done.stderr, "in a log"
    shutil.rmtree(directory)


PROGRAM = f"""
import sys
from oslo_config import cfg
from oslo_log import log
from dockstack.compute.privileged import decryption, volumes

log.register_options(cfg.CONF)
cfg.CONF(["--debug"], project="test")
log.setup(cfg.CONF, "test")
cfg.CONF.set_override("helper_command", sys.argv[1], group="dockstack_attaching")
path = decryption.decrypt(sys.argv[3], sys.argv[4], {KEY!r}, ("aes-xts-plain64", 256))
assert path.startswith(sys.argv[2])
assert decryption.find_open(sys.argv[3]) == path
assert list(volumes.list_left_open()) == [sys.argv[3]]
volumes.close_left_open(sys.argv[3])
assert not decryption.find_open(sys.argv[3])
print("whole")
"""


def test_one_that_is_opened_just_now_is_not_swept(host, volume) -> None:
    with host.busy.hold(volume.id):
        decryption.decrypt(volume.id, str(path_of(volume)), KEY, CIPHER)
        volumes.sweep(host, lambda _server: True)
        assert decryption.find_open(volume.id)
    volumes.sweep(host, lambda _server: True)
    assert not decryption.list_open()


PLACES = [(decryption, "_make_header"), (storage_daemon, "start"), (loops, "make"), (privileged, "_write")]


@pytest.mark.parametrize(
    "place",
    [(*place, late) for place in PLACES for late in (False, True)],
    ids=lambda place: f"{'after' if place[2] else 'before'} {place[1]}",
)
def test_killed_anywhere_nothing_is_left(host, server, volume, monkeypatch, place) -> None:
    module, name, late = place
    original = getattr(module, name)

    def killed(*arguments):
        if late:
            original(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, name, killed)
        patch.setattr(decryption, "_clear", lambda _directory: None)
        with pytest.raises(Killed):
            privileged_attach(host, server, volume)
    volumes.sweep(host, lambda _server: True)
    assert not decryption.list_open()
    assert not own_loops()
    volumes.attach(host, server, volume)
    volumes.detach(host, server, volume)


def privileged_attach(host, server, volume) -> None:
    """Do what an attachment does on the host, without its undo."""
    path = decryption.decrypt(volume.id, str(path_of(volume)), KEY, CIPHER)
    privileged.hold(server.uuid, volume.id, path, connector.tag(host.name), {"device": "vdb", "read_only": False})
