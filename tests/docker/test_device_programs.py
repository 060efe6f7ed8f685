# SPDX-License-Identifier: Apache-2.0
"""Rules for devices with cgroup v2: programs of the real kernel, exchanged while a process is in the group."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from dockstack.compute.privileged import device_programs, device_rules, server_devices, volumes

ROOTS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
ROOT = next((root for root in ROOTS if (root / "cgroup.controllers").exists()), None)
CONTAINER = "c" * 64
FIRST, SECOND = os.makedev(7, 0), os.makedev(7, 1)
DENY_BLOCK = (  # what is no block device is allowed
    (0x61, 0x12, 0, 0),
    (0x57, 0x02, 0, 0xFFFF),
    (0xB7, 0x00, 0, 1),
    (0x55, 0x02, 1, 1),
    (0xB7, 0x00, 0, 0),
    (0x95, 0x00, 0, 0),
)

pytestmark = pytest.mark.skipif(ROOT is None, reason="this machine has no cgroup v2")


def attach(group: Path, flags: int) -> None:
    """Give a group a program, as a container's runtime does."""
    code = b"".join(struct.pack("=BBhi", *step) for step in DENY_BLOCK)
    held = ctypes.create_string_buffer(code, len(code))
    place = ctypes.addressof(device_programs._LICENSE)
    line = struct.pack("=IIQQIIQI", 15, len(DENY_BLOCK), ctypes.addressof(held), place, 0, 0, 0, 0)
    program, directory = device_programs._bpf(5, line), os.open(group, os.O_RDONLY)
    device_programs._bpf(8, struct.pack("=IIIII", directory, program, 6, flags, 0))
    os.close(program)
    os.close(directory)


@pytest.fixture
def group():
    made = ROOT / f"docker-{uuid.uuid4().hex}{uuid.uuid4().hex}.scope"
    made.mkdir()
    yield made
    made.rmdir()


@pytest.fixture
def nodes(tmp_path):
    made = {}
    for number in (FIRST, SECOND):
        made[number] = tmp_path / f"node{number}"
        os.mknod(made[number], stat.S_IFBLK | 0o600, number)
    return made


OPEN = """
import os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
try:
    os.close(os.open(sys.argv[2], os.O_RDWR if sys.argv[3] == "w" else os.O_RDONLY))
except PermissionError:
    sys.exit(13)
except OSError:
    pass  # a loop device without a file
"""


STAY = """
import os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
print(flush=True)
sys.stdin.read()
"""


def opens(group: Path, node: Path, how: str = "w") -> bool:
    """Say whether a process in the group may open a device."""
    done = subprocess.run([sys.executable, "-c", OPEN, str(group), str(node), how], check=False)
    assert done.returncode in (0, 13)
    return not done.returncode


@pytest.mark.parametrize("flags", [[2], [2, 2], [0]], ids=["one", "two-of-which-both-must-allow", "one-alone"])
def test_a_device_is_allowed_and_denied_while_the_group_is_used(group, nodes, flags):
    for each in flags:
        attach(group, each)
    groups = {"": group}
    device_rules.check(groups)
    assert not opens(group, nodes[FIRST])
    for _ in range(2):  # again is fine
        device_rules.allow(groups, FIRST, read_only=False)
    device_rules.allow(groups, SECOND, read_only=True)
    assert opens(group, nodes[FIRST])
    assert (opens(group, nodes[SECOND], "r"), opens(group, nodes[SECOND])) == (True, False)
    device_rules.allow(groups, SECOND, read_only=False)
    assert opens(group, nodes[SECOND])
    for _ in range(2):
        device_rules.deny(groups, FIRST)
    assert (opens(group, nodes[FIRST]), opens(group, nodes[SECOND])) == (False, True)
    device_rules.deny(groups, SECOND)
    assert not opens(group, nodes[SECOND])
    with device_programs._opened(group) as (_, _, programs):
        assert len(programs) == len(flags)
        assert {len(program.code) for program in programs} == {len(DENY_BLOCK) * 8}, "nothing of ours is left"


def test_a_rule_that_systemd_has_taken_away_is_there_again(group, nodes, monkeypatch, tmp_path):
    """A reload of its units puts the program that it made in the place of ours."""
    server, volume, root = (str(uuid.uuid4()) for _ in range(3))
    monkeypatch.setattr(volumes, "VOLUMES_DIRECTORY", tmp_path / "held")
    monkeypatch.setattr(device_rules, "find_groups", lambda *_process: {"": group})
    for each, number, device in ((volume, FIRST, "vdb"), (root, SECOND, "vda")):
        numbers = {"major": os.major(number), "minor": os.minor(number)}
        volumes._write(server, each, {"volume": each, "device": device, "read_only": True, **numbers})
    attach(group, 0)
    for _ in range(2):
        server_devices.allow_again(os.getpid(), CONTAINER, server)
        assert (opens(group, nodes[FIRST], "r"), opens(group, nodes[FIRST])) == (True, False)
        assert not opens(group, nodes[SECOND], "r"), "its root is not its own to open"
        attach(group, 0)
        assert not opens(group, nodes[FIRST], "r")


def test_a_group_without_programs_may_use_all(group, nodes):
    device_rules.allow({"": group}, FIRST, read_only=False)
    device_rules.deny({"": group}, FIRST)
    assert opens(group, nodes[FIRST])


def test_what_the_kernel_does_not_tell_is_refused_and_nothing_changes(group, monkeypatch):
    attach(group, 2)
    monkeypatch.setattr(device_programs, "_read", lambda _program: (_ for _ in ()).throw(PermissionError(13, "no")))
    with pytest.raises(PermissionError):
        device_rules.check({"": group})
    with pytest.raises(PermissionError):
        device_rules.allow({"": group}, FIRST, read_only=False)


def test_the_group_of_a_container_is_found_from_a_process_in_one_below(monkeypatch, tmp_path):
    lines = f"0::/system.slice/docker-{CONTAINER}.scope/init.scope\n"
    monkeypatch.setattr(device_rules.Path, "read_text", lambda _path: lines)
    assert device_rules.find_groups(1, CONTAINER) == {"": ROOT / f"system.slice/docker-{CONTAINER}.scope"}


@pytest.mark.parametrize("controller", ["", "blkio"], ids=["v2", "v1"])
def test_a_kernel_that_does_not_bound_devices_is_fine(group, controller):
    """Nothing can be made in a control group, so a file that is not there is none that is refused."""
    assert not (group / "blkio.throttle.read_bps_device").exists()
    if (group / "io.max").exists():
        pytest.skip("here it does")
    device_rules.limit({controller: group}, FIRST, [1000, 0, 0, 50])


@pytest.mark.parametrize("unified", ["unified", ""], ids=["hybrid", "v2"])
def test_the_unified_hierarchy_is_where_the_machine_has_it(tmp_path, monkeypatch, unified):
    (tmp_path / unified).mkdir(exist_ok=True)
    (tmp_path / unified / "cgroup.controllers").touch()
    (tmp_path / "name=systemd").mkdir()
    lines = f"1:name=systemd:/docker/{CONTAINER}\n0::/docker/{CONTAINER}\n"
    monkeypatch.setattr(device_rules, "_GROUPS", tmp_path)
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: lines if path.parts[1] == "proc" else read(path))
    assert device_rules.find_groups(1, CONTAINER)[""] == tmp_path / unified / "docker" / CONTAINER


def test_a_machine_that_knows_no_rules_for_devices_is_refused_with_the_reason(tmp_path):
    groups = {"memory": tmp_path}
    for ask in (device_rules.check, lambda found: device_rules.allow(found, FIRST, read_only=True)):
        with pytest.raises(OSError, match="no control group with rules for devices"):
            ask(groups)
    device_rules.deny(groups, FIRST)
    device_rules.limit(groups, FIRST, [0] * 4)


def test_a_hierarchy_that_is_not_mounted_has_no_group(tmp_path, monkeypatch):
    (tmp_path / "devices").mkdir()
    monkeypatch.setattr(device_rules, "_GROUPS", tmp_path)
    monkeypatch.setattr(Path, "read_text", lambda _path: f"4:devices:/docker/{CONTAINER}\n0::/docker/{CONTAINER}\n")
    assert list(device_rules.find_groups(1, CONTAINER)) == ["devices"]


def test_rates_are_lines_of_one_file(tmp_path):
    (tmp_path / "io.max").touch()
    device_rules.limit({"": tmp_path}, FIRST, [1000, 0, 0, 50])
    assert (tmp_path / "io.max").read_text() == "7:0 rbps=1000 wbps=max riops=max wiops=50\n"
    device_rules.limit({"": tmp_path}, FIRST, [0] * 4)
    assert (tmp_path / "io.max").read_text() == "7:0 rbps=max wbps=max riops=max wiops=max\n"


def test_processes_of_a_server_are_found_whatever_groups_it_has_made(group, monkeypatch):
    """A threaded group does not tell its processes; the one above does. Another one may go while it is looked at."""
    threaded, gone = group / "threaded", group / "gone"
    threaded.mkdir()
    (threaded / "cgroup.type").write_text("threaded")
    gone.mkdir()
    scandir = os.scandir

    def scan(path):
        if Path(path) == gone:
            gone.rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    with subprocess.Popen([sys.executable, "-c", STAY, str(group)], stdin=-1, stdout=-1) as process:
        process.stdout.readline()
        try:
            assert server_devices._list_processes(group) == [process.pid]
        finally:
            process.stdin.close()
            process.wait()
            threaded.rmdir()


@pytest.mark.parametrize("machine", ["vax", "s390x", "riscv64", "ppc64le"])
def test_on_a_machine_where_it_cannot_work_it_is_refused(monkeypatch, machine):
    monkeypatch.setattr(device_programs.platform, "machine", lambda: machine)
    with pytest.raises(OSError, match=machine):
        device_programs._bpf(16, b"")
