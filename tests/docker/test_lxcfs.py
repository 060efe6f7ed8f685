# SPDX-License-Identifier: Apache-2.0
"""What servers see of their machine is their own, with a real LXCFS that is killed meanwhile."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from private_engine import wait_for

from dockstack.compute.containers import editor, namespaces, runtime, spec
from dockstack.compute.containers.lxcfs import Lxcfs, hidden
from dockstack.compute.model import Limits
from dockstack.oci.process import ImageConfig


class Daemon:
    """An LXCFS of the tests' own, below the directory from which the tests' runtime may mount."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.directory.mkdir(exist_ok=True)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        options = ["--enable-loadavg", "--enable-cfs", "--foreground", f"--pidfile={self.directory}.pid"]
        with open(f"{self.directory}.log", "a") as log:  # noqa: PTH123
            self.process = subprocess.Popen(["lxcfs", *options, self.directory], stdout=log, stderr=log)
        wait_for(lambda: Lxcfs(self.directory).ask(), "LXCFS")

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        subprocess.run(["umount", "--lazy", self.directory], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def lxcfs(private_engine):
    assert shutil.which("lxcfs"), "these tests need LXCFS: apt-get install lxcfs"
    lxcfs = Daemon(private_engine.directory.resolve() / "lxcfs")
    lxcfs.start()
    yield lxcfs
    lxcfs.kill()


def asked(lxcfs) -> Lxcfs:
    """Return an LXCFS that was asked."""
    found = Lxcfs(lxcfs.directory)
    found.ask()
    return found


def boot(lab, found: Lxcfs):
    server = lab.server(limits=Limits(vcpus=1, memory_mb=64, disk_gb=1, cpus=(0,)), ports=())
    config = ImageConfig(env={"PATH": "/bin"})
    namespaces.prepare(server.uuid)
    container_id = lab.engine.create(server.container_name, spec.build_spec(server, lab.image_id, config, host="host"))
    patch = spec.build_patch(server, config, mounts=found.mounts(), masked_paths=hidden())
    runtime.write_patch(lab.private.patches, container_id, patch)
    lab.engine.start(server.container_name)
    return server


def looks_its_own(lab, server) -> None:
    assert lab.run(server, "cat", "/proc/cpuinfo").count("processor\t") == 1
    assert lab.run(server, "nproc") == "1\n"
    assert f"MemTotal:{64 * 1024:>16} kB".split() == lab.run(server, "head", "-n", "1", "/proc/meminfo").split()
    assert float(lab.run(server, "cat", "/proc/uptime").split()[0]) < 300


def test_a_server_sees_its_own_share_and_no_disks(lab, lxcfs) -> None:
    server = boot(lab, asked(lxcfs))
    looks_its_own(lab, server)
    assert lab.run(server, "cat", "/proc/partitions", "/proc/diskstats") == ""
    assert lab.run(server, "ls", "/sys/block", "/sys/class/block").split() == ["/sys/block:", "/sys/class/block:"]


def test_a_killed_lxcfs_is_renewed_in_running_servers(lab, lxcfs) -> None:
    found = asked(lxcfs)
    server = boot(lab, found)
    container = lab.state(server)
    assert not found.renew(container.pid, container.id), "nothing to do"
    lxcfs.kill()
    assert lab.engine.execute(server.container_name, ["cat", "/proc/uptime"]).exit_code != 0
    lxcfs.start()
    found.ask()
    assert found.renew(container.pid, container.id)
    looks_its_own(lab, server)
    assert not found.renew(container.pid, container.id)


def test_without_lxcfs_a_running_server_sees_the_hosts_again(lab, lxcfs) -> None:
    found = asked(lxcfs)
    server = boot(lab, found)
    container = lab.state(server)
    lxcfs.kill()
    found.ask()
    assert found.renew(container.pid, container.id)
    assert lab.run(server, "cat", "/proc/uptime")
    lxcfs.start()
    found.ask()
    assert found.renew(container.pid, container.id)
    looks_its_own(lab, server)


def test_a_server_starts_without_lxcfs_and_gets_its_view_later(lab, lxcfs) -> None:
    found = asked(lxcfs)
    mounts = found.mounts()
    lxcfs.kill()
    found.ask()
    assert found.mounts() == ()
    server = boot(lab, Lxcfs(None))
    container = lab.state(server)
    lxcfs.start()
    found.ask()
    assert found.renew(container.pid, container.id)
    looks_its_own(lab, server)
    assert mounts


def test_lxcfs_that_ends_between_patch_and_start_stops_no_server(lab, lxcfs) -> None:
    class Doomed(Lxcfs):
        def mounts(self):
            found = super().mounts()
            lxcfs.kill()
            return found

    doomed = Doomed(lxcfs.directory)
    doomed.ask()
    server = boot(lab, doomed)
    assert lab.run(server, "cat", "/proc/uptime")
    lxcfs.start()


def test_another_containers_process_is_left_alone(lab, lxcfs) -> None:
    first, second = boot(lab, Lxcfs(None)), boot(lab, Lxcfs(None))
    found = asked(lxcfs)
    assert not found.renew(lab.state(first).pid, lab.state(second).id)
    assert found.renew(lab.state(first).pid, lab.state(first).id)


def test_an_lxcfs_that_hangs_stops_no_start(lab, lxcfs) -> None:
    """The driver knows it after a moment; a start that began before is not held by the runtime either."""
    found = asked(lxcfs)
    lxcfs.freeze()
    try:
        began = time.monotonic()
        early = boot(lab, found)  # nobody has noticed yet
        assert lab.run(early, "cat", "/proc/uptime")
        asking = threading.Thread(target=found.ask, daemon=True)
        asking.start()
        wait_for(lambda: found.generation() is None, "the driver to notice")
        late = boot(lab, found)
        assert lab.run(late, "cat", "/proc/uptime")
        assert time.monotonic() - began < 150
        assert asking.is_alive(), "it hangs as long as LXCFS does"
    finally:
        lxcfs.thaw()
    asking.join(60)
    assert found.generation() is not None
    for server in (early, late):
        container = lab.state(server)
        assert found.renew(container.pid, container.id)
        looks_its_own(lab, server)


@pytest.fixture
def hanging(tmp_path):
    """Where a file system is mounted that takes questions and does not answer."""
    program = Path(__file__).with_name("hanging_files.py")
    process = subprocess.Popen([sys.executable, program, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    yield tmp_path
    process.kill()
    process.wait()
    subprocess.run(["umount", tmp_path], check=False)


def test_an_lxcfs_that_hangs_over_a_question_stops_no_start(hanging) -> None:
    """Who asked it stays for as long as it hangs, even killed; no start waits for that, nor who reads its output."""
    program = "import editor, sys; c = {}; editor.add_mounts(c, [eval(sys.argv[1])], []); print(c)"
    mount = {"source": f"{hanging}/proc/uptime", "destination": "/proc/uptime", "required": False}
    command = [sys.executable, "-c", program, repr(mount)]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=Path(editor.__file__).parent, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "{'mounts': []}\n"
    assert "does not answer" in done.stderr
    assert time.monotonic() - began >= editor._ANSWER_SECONDS
