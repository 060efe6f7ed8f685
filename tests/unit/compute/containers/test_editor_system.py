# SPDX-License-Identifier: Apache-2.0
"""What the wrapper's editor does for the init of a whole system, where it can be tried without a runtime."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest

from dockstack.compute.containers import editor, sysctls
from dockstack.compute.containers.editor import Refusal

pytestmark = pytest.mark.unit

NAMED = ("/sys/fs/cgroup/systemd", "cgroup", ["rw", "name=systemd"])
MEMORY = ("/sys/fs/cgroup/memory", "cgroup", ["rw", "memory"])
CPU = ("/sys/fs/cgroup/cpu,cpuacct", "cgroup", ["rw", "cpu", "cpuacct"])
UNIFIED = ("/sys/fs/cgroup", "cgroup2", ["rw", "nsdelegate", "memory_recursiveprot"])


def config(path: str = "/docker/abc") -> dict:
    groups = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}
    return {"linux": {"cgroupsPath": path, "namespaces": [{"type": "pid"}]}, "mounts": [groups]}


def give(monkeypatch, found: dict, hierarchies: list) -> dict:
    monkeypatch.setattr(editor, "list_hierarchies", lambda: hierarchies)
    editor.give_groups(found, True)
    return found


@pytest.fixture
def beside(monkeypatch, tmp_path):
    """Where the host has cgroup v2 beside v1."""
    monkeypatch.setattr(editor, "_BESIDE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/docker/abc", "/docker/abc"),
        ("system.slice:docker:abc", "/system.slice/docker-abc.scope"),
        ("a-b.slice:docker:abc", "/a.slice/a-b.slice/docker-abc.scope"),
    ],
)
def test_beside_v1_it_gets_a_bounded_group_of_v2_alone(monkeypatch, beside, path, group) -> None:
    found = give(monkeypatch, config(path), [MEMORY, CPU, (str(beside), "cgroup2", ["rw"]), NAMED])
    mounts = [(mount["source"], mount["destination"], mount["options"][1]) for mount in found["mounts"]]
    assert mounts == [
        (f"{beside}{group}", "/sys/fs/cgroup", "rw"),
        (f"{beside}{group}/cgroup.max.descendants", "/sys/fs/cgroup/cgroup.max.descendants", "ro"),
        (f"{beside}{group}/cgroup.max.depth", "/sys/fs/cgroup/cgroup.max.depth", "ro"),
        (f"/sys/fs/cgroup/memory{group}", "/sys/fs/cgroup/memory", "ro"),
        (f"/sys/fs/cgroup/cpu,cpuacct{group}", "/sys/fs/cgroup/cpu", "ro"),
        (f"/sys/fs/cgroup/cpu,cpuacct{group}", "/sys/fs/cgroup/cpuacct", "ro"),
    ]
    limits = {file.name: file.read_text() for file in Path(f"{beside}{group}").iterdir()}
    assert limits == {"cgroup.max.descendants": "4096", "cgroup.max.depth": "14"}
    assert {"type": "cgroup"} in found["linux"]["namespaces"]


def test_of_v2_it_gets_what_the_kernel_delegates(monkeypatch) -> None:
    found = give(monkeypatch, config(), [UNIFIED])
    assert [mount["options"] for mount in found["mounts"]] == [["nosuid", "rw"]]
    assert {"type": "cgroup"} in found["linux"]["namespaces"]


def test_of_v2_it_makes_so_many_groups_and_keeps_its_other_limits(monkeypatch) -> None:
    limits = {"cgroup.max.descendants": "4096", "cgroup.max.depth": "14"}
    before = config()
    before["linux"]["resources"] = {"pids": {"limit": 9}, "unified": {"memory.high": "7"}}
    resources = give(monkeypatch, before, [UNIFIED])["linux"]["resources"]
    assert resources == {"pids": {"limit": 9}, "unified": {"memory.high": "7", **limits}}
    assert give(monkeypatch, config(), [UNIFIED])["linux"]["resources"]["unified"] == limits


@pytest.mark.parametrize("hierarchies", [[], [MEMORY], [MEMORY, NAMED], [(UNIFIED[0], "cgroup2", ["rw"])]])
def test_a_server_that_nothing_would_bound_does_not_start(monkeypatch, hierarchies) -> None:
    with pytest.raises(Refusal, match="control groups"):
        give(monkeypatch, config(), hierarchies)


@pytest.mark.parametrize(
    "path", [None, 7, "", "relative", "/docker/../..", "/a//b", "a.slice:b", "x:y:z", "a.slice:../b:c"]
)
def test_a_group_that_is_none_is_refused(monkeypatch, beside, path) -> None:
    with pytest.raises(Refusal, match="no control group"):
        give(monkeypatch, config(path), [(str(beside), "cgroup2", ["rw"])])
    assert not list(beside.iterdir())


def test_others_keep_their_groups(monkeypatch) -> None:
    found = config()
    editor.give_groups(found, False)
    assert found == config()


def test_the_hosts_own_hierarchies_are_understood() -> None:
    assert all(place.startswith("/") and kind in ("cgroup", "cgroup2") for place, kind, _ in editor.list_hierarchies())


def test_environment_does_not_replace_what_the_image_says() -> None:
    found: dict = {"process": {"env": ["container=oci"]}}
    editor.add_environment(found, {"container": "docker", "container_uuid": "1"})
    assert found["process"]["env"] == ["container=oci", "container_uuid=1"]
    with pytest.raises(Refusal):
        editor.add_environment(found, {"x": 1})


def test_each_start_has_its_boot_id_and_settings_of_its_network(tmp_path) -> None:
    ids = set()
    for _ in range(2):
        found: dict = {"root": {"path": "/var/lib/a b/merged"}}
        editor.give_settings(found, str(tmp_path), list(sysctls.WRITABLE))
        ids.add(uuid.UUID((tmp_path / "boot_id").read_text().strip()))
        (hook,) = found["hooks"]["createContainer"]
        assert hook["args"][-1] == str(tmp_path / "settings.fstab")
    assert len(ids) == 2
    lines = (tmp_path / "settings.fstab").read_text().splitlines()
    assert len(lines) == 1 + len(sysctls.WRITABLE)
    assert all(re.fullmatch(r"\S+ /var/lib/a\\040b/merged/proc/sys/\S+ none bind,r\S+ 0 0", line) for line in lines)
    assert [line.split()[3] for line in lines].count("bind,ro") == 1


@pytest.mark.parametrize("path", ["/proc/sys/kernel/core_pattern", "/proc/sys/net/../kernel/x", "net/x", 7, None])
def test_only_settings_of_the_network_can_be_given(tmp_path, path) -> None:
    with pytest.raises(Refusal, match="no setting of a network"):
        editor.give_settings({"root": {"path": "/r"}}, str(tmp_path), [path])


def test_whoever_may_reboot_may_not_load_a_kernel() -> None:
    rules = [
        {"names": ["kexec_load", "read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["kexec_file_load"], "action": "x"},
    ]
    found: dict = {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}}}
    editor.guard_kernel(found)
    assert [rule["names"] for rule in found["linux"]["seccomp"]["syscalls"]] == [["read"]]
    for others, kept in (([], []), (["CAP_SYS_MODULE"], ["CAP_SYS_BOOT", "CAP_SYS_MODULE"])):
        capabilities = {"bounding": ["CAP_SYS_BOOT", *others]}
        editor.guard_kernel({"linux": {}, "process": {"capabilities": capabilities}})
        assert capabilities["bounding"] == kept
