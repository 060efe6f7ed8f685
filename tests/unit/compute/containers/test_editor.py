# SPDX-License-Identifier: Apache-2.0
"""The wrapper's editor, where it can be tried without a runtime."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack import names
from dockstack.compute.containers import editor, runtime
from dockstack.compute.containers.editor import Refusal
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

GLOBAL = ["--root", "/run/create", "--log", "/l", "--log-format", "json"]


@pytest.mark.parametrize(
    ("call", "bundle"),
    [
        ([*GLOBAL, "create", "--bundle", "/b", "--pid-file", "p", "id"], "/b"),
        ([*GLOBAL, "--systemd-cgroup", "create", "-b", "/b", "id"], "/b"),
        (["--debug", "restore", "--bundle=/b", "id"], "/b"),
        (["run", "id"], "."),
        ([*GLOBAL, "start", "create"], None),
        ([*GLOBAL, "exec", "id", "create"], None),
        (["--root=/x", "state", "id"], None),
        (["--version"], None),
        ([], None),
        (["--root"], None),
    ],
)
def test_finds_the_calls_that_read_a_bundle(call, bundle) -> None:
    assert editor.find_bundle(call) == bundle


@pytest.fixture
def patches(tmp_path):
    directory = tmp_path / "patches"
    directory.mkdir(mode=0o700)
    return directory


def read(patches) -> dict:
    return editor.read_patch(str(patches), "abc")


def test_reads_what_the_driver_writes(patches) -> None:
    mount = runtime.Mount("/var/lib/dockstack/x", "/x")
    runtime.write_patch(patches, "abc", runtime.Patch("/run/netns/nova-1", ("/data",), (mount,), ("/proc/a",)))
    assert read(patches) == {
        "version": 1,
        "netns": "/run/netns/nova-1",
        "drop_mounts": ["/data"],
        "mounts": [
            {
                "source": "/var/lib/dockstack/x",
                "destination": "/x",
                "type": "bind",
                "options": ["bind", "ro", "nosuid", "nodev"],
                "required": True,
            }
        ],
        "masked_paths": ["/proc/a"],
        "readonly_paths": [],
        "overlays": [],
        "roots": [],
        "disk_guard": "",
        "shm_bytes": 0,
        "contents": {},
        "environment": {},
        "own_groups": False,
        "devices": [],
        "root_volume": None,
        "sysctls": [],
        "volume_mounts": "",
        "mount_socket": "",
        "interfaces": {},
    }
    assert runtime.patched(patches) == ("abc",)
    assert (patches / "abc.json").stat().st_mode & 0o777 == 0o600
    runtime.remove_patch(patches, "abc")
    runtime.remove_patch(patches, "abc")
    assert runtime.patched(patches) == ()


def test_interfaces_are_read_back(patches) -> None:
    runtime.write_patch(patches, "abc", runtime.Patch("/run/netns/nova-1", interfaces={"tap1": "eth1"}))
    assert runtime.read_interfaces(patches, "abc") == {"tap1": "eth1"}
    assert runtime.read_interfaces(patches, "none") == {}


@pytest.mark.parametrize("text", ["", "no json", "1", "null", "[]", "{}", '{"interfaces": ["x"]}'])
def test_a_patch_that_nobody_can_read_keeps_no_server_from_being_deleted(patches, text) -> None:
    (patches / "abc.json").write_text(text)
    assert runtime.read_interfaces(patches, "abc") == {}


def test_refuses_a_missing_patch(patches) -> None:
    with pytest.raises(Refusal, match="no network was prepared"):
        read(patches)


@pytest.mark.parametrize(
    "text",
    ['{"version": 2, "netns": "x"}', "{}", "[]", '{"version": 1, "netns": "x", "gadgets": []}', " " * (1 << 20) + "{}"],
)
def test_refuses_what_it_does_not_understand(patches, text) -> None:
    (patches / "abc.json").write_text(text)
    with pytest.raises(Refusal):
        read(patches)


def test_refuses_links_pipes_and_what_others_can_write(patches, tmp_path) -> None:
    path = patches / "abc.json"
    (tmp_path / "elsewhere").write_text('{"version": 1, "netns": "x"}')
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        read(patches)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Refusal, match="only the owner"):
        read(patches)
    path.unlink()
    path.write_text('{"version": 1, "netns": "x"}')
    path.chmod(0o666)
    with pytest.raises(Refusal, match="only the owner"):
        read(patches)
    path.chmod(0o600)
    patches.chmod(0o777)
    with pytest.raises(Refusal, match="can be written by others"):
        read(patches)


@pytest.mark.parametrize(
    "path", [None, 7, "", "/proc/1/ns/net", "/run/netns/nova-1/../x", "/run/netns/x", "nova-1", "/run/netns//nova-1"]
)
def test_refuses_foreign_namespaces(path) -> None:
    with pytest.raises(Refusal, match="is no namespace of a server"):
        editor.check_namespace(path)


def test_says_which_namespace_is_missing() -> None:
    with pytest.raises(Refusal, match="/run/netns/nova-nowhere is missing"):
        editor.check_namespace("/run/netns/nova-nowhere")


def test_joins_and_keeps_the_engine_away() -> None:
    setkey = {"path": "/proc/7/exe", "args": ["libnetwork-setkey", "-exec-root=/x", "id"]}
    other = {"path": "/bin/hook", "args": ["hook"]}
    config = {
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]},
        "hooks": {"prestart": [setkey, other], "poststop": [other]},
    }
    editor.join_namespace(config, "/run/netns/nova-1")
    assert config == {
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/nova-1"}]},
        "hooks": {"prestart": [other], "poststop": [other]},
    }


def test_a_container_of_the_hosts_network_still_joins() -> None:
    config = {"linux": {"namespaces": []}}
    editor.join_namespace(config, "/n")
    assert config["linux"]["namespaces"] == [{"type": "network", "path": "/n"}]


def test_drops_only_bind_mounts_that_are_named() -> None:
    mounts = [
        {"destination": "/data/", "type": "bind"},
        {"destination": "/data", "type": "tmpfs"},
        {"destination": "/etc/hosts", "type": "bind"},
    ]
    config = {"mounts": list(mounts)}
    editor.drop_mounts(config, ["/data"])
    assert config == {"mounts": mounts[1:]}
    with pytest.raises(Refusal):
        editor.drop_mounts(config, "/etc/hosts")


def test_shared_memory_has_the_size_of_the_server() -> None:
    shm = {"destination": "/dev/shm", "type": "tmpfs", "options": ["nosuid", "mode=1777", "size=67108864"]}
    config = {"mounts": [{"destination": "/run", "type": "tmpfs", "options": ["size=1"]}, shm, {"destination": "/x"}]}
    editor.size_shared_memory(config, 0)
    assert shm["options"][-1] == "size=67108864"
    editor.size_shared_memory(config, 5 << 20)
    assert shm["options"] == ["nosuid", "mode=1777", "size=5242880"]
    assert config["mounts"][0]["options"] == ["size=1"]
    for size in (-1, "1", True, None):
        with pytest.raises(Refusal):
            editor.size_shared_memory(config, size)


@pytest.fixture
def shared(tmp_path):
    """A directory whose content may be mounted, with a file in it."""
    directory = tmp_path.resolve() / "shared"
    directory.mkdir()
    (directory / "file").write_text("x")
    return directory


def bind(source: object, destination: object = "/proc/cpuinfo", **other: object) -> dict:
    mount = {"source": str(source), "destination": destination, "type": "bind", "options": ["bind", "ro"]}
    return mount | other


def test_adds_mounts_after_the_engines_own(shared) -> None:
    own = {"destination": "/proc", "type": "proc"}
    config = {"mounts": [own]}
    tmpfs = {"source": "tmpfs", "destination": "/sys/block", "type": "tmpfs", "options": ["ro", "nosuid", "size=0"]}
    editor.add_mounts(config, [bind(shared / "file", required=True), tmpfs], [str(shared)])
    assert config == {"mounts": [own, bind(shared / "file"), tmpfs]}


def test_only_an_optional_mount_may_lack_its_source(shared) -> None:
    config = {"mounts": []}
    editor.add_mounts(config, [bind(shared / "gone", required=False)], [str(shared)])
    assert config == {"mounts": []}
    with pytest.raises(Refusal, match="cannot be had"):
        editor.add_mounts(config, [bind(shared / "gone")], [str(shared)])


def test_one_child_asks_for_all_optional_mounts(shared, monkeypatch) -> None:
    forks = []
    fork = os.fork
    monkeypatch.setattr(os, "fork", lambda: forks.append(fork()) or forks[-1])
    config = {"mounts": []}
    wanted = [bind(shared / "file", f"/proc/{name}", required=False) for name in ("cpuinfo", "meminfo", "stat")]
    editor.add_mounts(config, wanted, [str(shared)])
    assert [mount["destination"] for mount in config["mounts"]] == ["/proc/cpuinfo", "/proc/meminfo", "/proc/stat"]
    assert len(forks) == 1


def test_what_does_not_answer_is_left_out_even_if_who_asks_cannot_be_ended(shared, monkeypatch) -> None:
    asking = []
    monkeypatch.setattr(editor, "_ANSWER_SECONDS", 0.1)
    exists = os.path.exists
    source = str(shared / "file")

    def hang(path):
        return time.sleep(600) if path == source else exists(path)  # longer than anybody waits for it

    monkeypatch.setattr(os.path, "exists", hang)
    config = {"mounts": []}
    began = time.monotonic()
    with monkeypatch.context() as unkillable:
        unkillable.setattr(os, "kill", lambda child, number: asking.append(child))
        editor.add_mounts(config, [bind(shared / "file", required=False)], [str(shared)])
    assert config == {"mounts": []}
    assert time.monotonic() - began < 300
    os.kill(asking[0], signal.SIGKILL)
    os.waitpid(asking[0], 0)


@pytest.mark.parametrize("source", ["/etc/shadow", "{}/../x", "{}x", "{}//file", "file", "{}/link", "", None, 7])
def test_nothing_else_of_the_host_is_mounted(shared, source) -> None:
    (shared / "link").symlink_to("/etc/shadow")
    path = source.format(shared) if isinstance(source, str) else source
    with pytest.raises(Refusal, match="is no source of a mount"):
        editor.add_mounts({}, [bind("x", required=False) | {"source": path}], [str(shared)])


@pytest.mark.parametrize("destination", ["/", "//", "/a/../b", "a", "/a/", "", None])
def test_a_mounts_destination_is_plain(shared, destination) -> None:
    with pytest.raises(Refusal, match="is no path in a container"):
        editor.add_mounts({}, [bind(shared / "file", destination)], [str(shared)])


@pytest.mark.parametrize(
    "change",
    [
        {"options": ["ro"]},
        {"options": ["bind", "rshared"]},
        {"options": ["bind", "size=1"]},
        {"options": "bind"},
        {"options": [["bind"]]},
        {"type": "proc"},
        {"type": "tmpfs", "options": ["bind"]},
        {"type": "tmpfs", "options": ["size=1,exec"]},
        {"devices": []},
    ],
)
def test_refuses_other_kinds_of_mounts(shared, change) -> None:
    with pytest.raises(Refusal):
        editor.add_mounts({}, [bind(shared / "file") | change], [str(shared)])


def test_hides_paths_besides_the_engines() -> None:
    config = {"linux": {"maskedPaths": ["/proc/keys"]}}
    editor.add_paths(config, "maskedPaths", ["/sys/block", "/proc/keys"])
    editor.add_paths(config, "readonlyPaths", [])
    assert config == {"linux": {"maskedPaths": ["/proc/keys", "/sys/block"]}}
    for wrong in ("/sys", [7], ["sys"], {}):
        with pytest.raises(Refusal):
            editor.add_paths(config, "readonlyPaths", wrong)


@pytest.mark.parametrize("identity", ["", "../x", "a/b", ".hidden"])
def test_a_patch_stays_in_its_directory(patches, identity) -> None:
    with pytest.raises(ValueError, match="is no container id"):
        runtime.write_patch(patches, identity, runtime.Patch("x"))


@pytest.fixture
def wrapper(tmp_path, patches):
    """The installed wrapper, with a runtime behind it that says what it was asked."""
    runc = tmp_path / "runc"
    runc.write_text('#!/bin/sh\necho "runc $*"\n')
    runc.chmod(0o755)
    directory = tmp_path / "run time's"
    assert runtime.install(directory, patches, str(runc), sys.executable)
    assert not runtime.install(directory, patches, str(runc), sys.executable)

    def call(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([directory / runtime.RUNTIME, *arguments], capture_output=True, text=True, check=False)

    return call


def test_passes_everything_else_on(wrapper) -> None:
    assert wrapper("--root", "/x", "state", "a b").stdout == "runc --root /x state a b\n"
    assert wrapper("exec", "id", "create").stdout == "runc exec id create\n"
    assert wrapper("--version").stdout == "runc --version\n"
    assert wrapper("--root", "/x", "start", "abc").stdout == "runc --root /x start abc\n"


@pytest.fixture
def held(patches, tmp_path):
    """A container that was created while its start was held, and the bundle's root file system."""
    bundle = tmp_path / "bundles" / "abc"
    (bundle / "rootfs/etc").mkdir(parents=True)
    (bundle / "rootfs/etc/hosts").touch()
    (bundle / "config.json").write_text('{"root": {"path": "rootfs"}}')
    (patches / "abc.held").write_text(str(bundle))
    runtime.write_patch(patches, "abc", runtime.Patch("/run/netns/nova-1", contents={"/etc/hosts": "10.0.0.5\tweb\n"}))
    return bundle / "rootfs"


def test_a_held_start_completes_its_files_once(wrapper, patches, held) -> None:
    for _ in range(2):
        assert wrapper("start", "abc").stdout == "runc start abc\n"
        assert (held / "etc/hosts").read_text() == "10.0.0.5\tweb\n"
        (held / "etc/hosts").write_text("10.0.0.5\tweb\n")
    assert not (patches / "abc.held").exists()


def test_a_start_whose_holder_died_is_refused(wrapper, patches, held) -> None:
    (patches / "abc.gate").touch()
    done = wrapper("start", "abc")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the network of this container was not completed" in done.stderr
    assert runtime.patched(patches) == ("abc",)
    runtime.remove_patch(patches, "abc")
    assert list(patches.iterdir()) == []


def test_a_refused_start_leaves_no_process_behind(wrapper, patches, held, tmp_path) -> None:
    (tmp_path / "runc").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\necho \'{{"status": "stopped"}}\'\n')
    (patches / "abc.gate").touch()
    assert wrapper("--root", "/x", "start", "abc").returncode == 1
    assert (tmp_path / "asked").read_text().splitlines() == ["--root /x kill abc KILL", "--root /x state abc"]


def test_the_bundle_is_the_containers_own(wrapper, patches, held, tmp_path) -> None:
    held.parent.rename(tmp_path / "bundles" / "other")
    (patches / "abc.held").write_text(str(tmp_path / "bundles" / "other"))
    assert "is no bundle of abc" in wrapper("start", "abc").stderr


def test_fails_closed_and_says_why_where_the_engine_looks(wrapper, tmp_path) -> None:
    bundle = tmp_path / "abc"
    bundle.mkdir()
    (bundle / "config.json").write_text('{"linux": {}}')
    done = wrapper("--log", str(tmp_path / "log"), "create", "--bundle", str(bundle), "abc")
    assert done.returncode == 1
    assert "runc" not in done.stdout
    assert "no network was prepared for this container" in json.loads((tmp_path / "log").read_text())["msg"]
    assert (bundle / "config.json").read_text() == '{"linux": {}}'


@pytest.mark.parametrize("text", ["", "{", "[]", '{"linux": 1}'])
def test_fails_closed_on_a_broken_bundle(wrapper, tmp_path, patches, monkeypatch, text) -> None:
    runtime.write_patch(patches, "abc", runtime.Patch("/run/netns/nova-1"))
    bundle = tmp_path / "abc"
    bundle.mkdir()
    (bundle / "config.json").write_text(text)
    done = wrapper("create", "--bundle", str(bundle), "abc")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_renders_what_it_is_told() -> None:
    files = runtime.render("/p q", "/usr/sbin/runc")
    assert set(files) == {runtime.RUNTIME, runtime.EDITOR}
    assert 'exec /usr/sbin/runc "$@"' in files[runtime.RUNTIME]
    assert "'/p q'" in files[runtime.RUNTIME]
    assert "@" not in files[runtime.RUNTIME].replace('"$@"', "")
    assert "/var/lib/dockstack" in files[runtime.RUNTIME]
    assert files == runtime.render("/p q", "/usr/sbin/runc")


def test_refuses_to_install_without_a_runtime(tmp_path) -> None:
    with pytest.raises(DockstackError, match="There is no OCI runtime /nowhere"):
        runtime.install(tmp_path, tmp_path, "/nowhere")
    with pytest.raises(DockstackError, match="There is no interpreter"):
        runtime.install(tmp_path, tmp_path, sys.executable, "/nowhere")


def layer(root, name: str):
    directory = root / "overlay2" / (name * 64)
    for part in ("diff", "work"):
        (directory / part).mkdir(parents=True)
    (root / "overlay2" / "l").mkdir(exist_ok=True)
    (directory / "link").write_text(name.upper() * 26)
    (root / "overlay2" / "l" / (name.upper() * 26)).symlink_to(f"../{name * 64}/diff")
    return directory


def overlay(root, **changes) -> dict[str, object]:
    upper, lower = layer(root, "a"), layer(root, "b")
    fields = {"lower": [f"{lower}/diff"], "upper": f"{upper}/diff", "work": f"{upper}/work", "destination": "/mnt/x"}
    return fields | changes


def test_mounts_the_root_of_a_stopped_container(tmp_path) -> None:
    config: dict = {}
    wanted = overlay(tmp_path)
    editor.add_overlays(config, [wanted])
    (mount,) = config["mounts"]
    assert mount["type"] == "overlay"
    assert mount["destination"] == "/mnt/x"
    assert mount["options"] == [
        f"lowerdir={wanted['lower'][0]}",
        f"upperdir={wanted['upper']}",
        f"workdir={wanted['work']}",
        "index=off",
        "nodev",
    ]


def test_a_deep_root_is_said_in_short(tmp_path, monkeypatch) -> None:
    config: dict = {}
    wanted = overlay(tmp_path)
    monkeypatch.setattr(editor, "_MOUNT_DATA", len(editor.overlay_options(*map(str, (wanted["lower"], "", "")))) + 260)
    long = len(editor.overlay_options(wanted["lower"], wanted["upper"], wanted["work"]))
    monkeypatch.setattr(editor, "_MOUNT_DATA", long - 1)
    editor.add_overlays(config, [wanted])
    assert config["mounts"][0]["options"][0] == f"lowerdir={tmp_path}/overlay2/l/{'B' * 26}"
    monkeypatch.setattr(editor, "_MOUNT_DATA", 10)
    with pytest.raises(editor.Refusal, match="too deep"):
        editor.add_overlays(config, [wanted])


@pytest.mark.parametrize(
    "changes",
    [
        {"upper": "/etc"},
        {"lower": ["/overlay2/../etc/diff"]},
        {"lower": []},
        {"lower": "/"},
        {"work": "/overlay2/work"},
        {"destination": "/"},
        {"destination": "/mnt/../.."},
        {"upper": "/overlay2/" + "c" * 64 + "/diff"},
        {"more": 1},
    ],
)
def test_what_is_no_root_of_a_container_is_refused(tmp_path, changes) -> None:
    with pytest.raises(editor.Refusal):
        editor.add_overlays({}, [overlay(tmp_path, **changes)])


def test_a_layer_that_is_a_link_is_refused(tmp_path) -> None:
    wanted = overlay(tmp_path)
    link = tmp_path / "overlay2" / ("d" * 64)
    link.symlink_to(tmp_path / "overlay2" / ("b" * 64))
    with pytest.raises(editor.Refusal):
        editor.add_overlays({}, [wanted | {"lower": [f"{link}/diff"]}])


SUBVOLUME = "/data/btrfs/subvolumes/" + "a" * 64


def test_mounts_a_stopped_containers_subvolume(monkeypatch) -> None:
    monkeypatch.setattr(editor.os, "stat", lambda _path: os.stat_result((0o40755, 256, *[0] * 8)))
    config: dict = {}
    editor.add_roots(config, [{"source": SUBVOLUME, "destination": "/mnt/rescue"}])
    assert config["mounts"] == [
        {
            "source": SUBVOLUME,
            "destination": "/mnt/rescue",
            "type": "bind",
            "options": ["bind", "rw", "nodev", "rprivate"],
        }
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "/etc"},
        {"source": SUBVOLUME + "-init"},
        {"source": SUBVOLUME + "/etc"},
        {"source": f"/data/../{SUBVOLUME}"},
        {"source": 7},
        {"destination": "/"},
        {"type": "bind"},
    ],
)
def test_what_is_no_subvolume_of_a_container_is_refused(monkeypatch, changes) -> None:
    monkeypatch.setattr(editor.os, "stat", lambda _path: os.stat_result((0o40755, 256, *[0] * 8)))
    with pytest.raises(editor.Refusal):
        editor.add_roots({}, [{"source": SUBVOLUME, "destination": "/mnt/rescue"} | changes])


def test_a_plain_directory_is_no_subvolume(tmp_path) -> None:
    directory = tmp_path / "btrfs/subvolumes" / ("a" * 64)
    directory.mkdir(parents=True)
    with pytest.raises(editor.Refusal, match="cannot be had"):
        editor.add_roots({}, [{"source": str(directory), "destination": "/mnt/rescue"}])


def allowed(seccomp: dict, request: int) -> bool:
    """What libseccomp makes of a profile for one ioctl."""
    for rule in seccomp["syscalls"]:
        if "ioctl" in rule["names"]:
            (test,) = rule.get("args") or [{"value": 0, "valueTwo": 0}]
            if request & test["value"] == test["valueTwo"]:
                return rule["action"] == "SCMP_ACT_ALLOW"
    return seccomp["defaultAction"] == "SCMP_ACT_ALLOW"


SUBVOLUME_CREATE, SUBVOLUME_CREATE_V2, SNAPSHOT_V2 = 0x5000940E, 0x50009418, 0x50009417
SET_PROJECT, SET_FLAGS = 0x401C5820, 0x40086602
CLONES = (0x40049409, 0x4020940D, 0xC0189436)


@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"])
@pytest.mark.parametrize(
    ("file_system", "refused", "others"),
    [
        ("btrfs", (SUBVOLUME_CREATE, SUBVOLUME_CREATE_V2, SNAPSHOT_V2), (SET_PROJECT, SET_FLAGS)),
        ("xfs", (SET_PROJECT, SET_FLAGS), (SUBVOLUME_CREATE, 0x801C581F, 0x80086601, *CLONES)),
    ],
)
def test_no_process_gets_out_of_its_disks_limit(default, file_system, refused, others) -> None:
    rules = [{"names": ["read", "ioctl"], "action": "SCMP_ACT_ALLOW"}] if default == "SCMP_ACT_ERRNO" else []
    config: dict = {"linux": {"seccomp": {"defaultAction": default, "syscalls": rules}}}
    seccomp = config["linux"]["seccomp"]
    assert all(allowed(seccomp, request) for request in refused)
    editor.guard_disk(config, file_system)
    for request in refused:
        assert not allowed(seccomp, request)
        assert not allowed(seccomp, request | 1 << 32)
    for request in (*others, 0x5401, 0, 0x8933, 0x9503, 0x1400, 0xFFFF):  # terminals, sockets, loops
        assert allowed(seccomp, request), hex(request)
    if default == "SCMP_ACT_ERRNO":
        assert rules[0]["names"] == ["read"]
        assert all(allowed(seccomp, request) for request in CLONES)


@given(st.sets(st.integers(0, 0xFFFF), min_size=1, max_size=3), st.integers(0, 0xFFFFFFFF))
def test_a_complement_matches_once_what_is_not_named(values, number) -> None:
    matching = [mask for mask, value in editor.complement(0xFFFF, tuple(values)) if number & mask == value]
    assert len(matching) == (number & 0xFFFF not in values)


@pytest.mark.parametrize("file_system", ["btrfs", "xfs"])
@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG"])
def test_the_call_that_does_what_the_ioctl_does_is_refused(file_system, default) -> None:
    """file_setattr(2), since Linux 6.17; a rule with the profile's own default action stops the runtime."""
    rules = [{"names": ["file_getattr", "file_setattr"], "action": "SCMP_ACT_ALLOW"}]
    rules += [{"names": ["file_setattr"], "action": "SCMP_ACT_ALLOW"}, {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"}]
    seccomp = {"defaultAction": default, "syscalls": rules}
    editor.guard_disk({"linux": {"seccomp": seccomp}}, file_system)
    about = [rule for rule in seccomp["syscalls"] if "file_setattr" in rule["names"]]
    assert about == ([] if default == "SCMP_ACT_ERRNO" else [{"names": ["file_setattr"], "action": "SCMP_ACT_ERRNO"}])
    assert {"names": ["file_getattr"], "action": "SCMP_ACT_ALLOW"} in seccomp["syscalls"]


def test_a_privileged_server_has_no_guard() -> None:
    config: dict = {"linux": {}}
    editor.guard_disk(config, "btrfs")
    assert config == {"linux": {}}


def test_another_file_systems_guard_is_refused() -> None:
    with pytest.raises(editor.Refusal, match="no guard of disks on 'zfs'"):
        editor.guard_disk({}, "zfs")


@pytest.fixture
def rootfs(tmp_path):
    (tmp_path / "rootfs/etc").mkdir(parents=True)
    (tmp_path / "engines").write_text("127.0.0.1 localhost\n")
    return tmp_path / "rootfs"


def give(rootfs, destination="/etc/hosts", contents=None) -> list[dict]:
    source = str(rootfs.parent / "engines")
    kept = {"destination": "/etc/hosts.d", "type": "bind", "source": "/x"}
    config: dict = {
        "root": {"path": "rootfs"},
        "mounts": [{"destination": destination, "type": "bind", "source": source}, kept],
    }
    editor.give_files(config, str(rootfs.parent), contents or {})
    assert config["mounts"][-1] == kept
    return config["mounts"][:-1]


def test_a_server_has_its_own_hosts(rootfs) -> None:
    (rootfs / "etc/hosts").touch(0o755)
    assert give(rootfs) == []
    assert (rootfs / "etc/hosts").read_text() == "127.0.0.1 localhost\n"
    assert (rootfs / "etc/hosts").stat().st_mode & 0o777 == 0o644
    (rootfs / "etc/hosts").write_text("its own")
    assert give(rootfs) == []
    assert (rootfs / "etc/hosts").read_text() == "its own"


def test_its_hosts_begin_as_the_driver_says(rootfs) -> None:
    (rootfs / "etc/hosts").touch()
    assert give(rootfs, contents={"/etc/hosts": "10.0.0.5\tweb\n"}) == []
    assert (rootfs / "etc/hosts").read_text() == "10.0.0.5\tweb\n"


def own_lines(*addresses: str) -> str:
    begin, end = editor.OWN_LINES
    return "".join(["127.0.0.1\tlocalhost\n", begin, *(f"{address}\tweb\n" for address in addresses), end])


def test_its_addresses_are_renewed_at_each_start_and_the_rest_is_its_own(rootfs) -> None:
    (rootfs / "etc/hosts").touch()
    give(rootfs, contents={"/etc/hosts": own_lines("10.0.0.5", "10.0.0.7")})
    (rootfs / "etc/hosts").write_text("192.0.2.1\tdb\n" + (rootfs / "etc/hosts").read_text() + "192.0.2.2\tcache\n")
    give(rootfs, contents={"/etc/hosts": own_lines("10.0.0.6")})
    assert (rootfs / "etc/hosts").read_text() == "192.0.2.1\tdb\n" + own_lines("10.0.0.6") + "192.0.2.2\tcache\n"


def test_a_server_that_took_the_mark_away_keeps_its_lines(rootfs) -> None:
    mine = "10.0.0.5\tweb\n# End.\n"
    (rootfs / "etc/hosts").write_text(mine)
    give(rootfs, contents={"/etc/hosts": own_lines("10.0.0.6")})
    assert (rootfs / "etc/hosts").read_text() == mine


@pytest.mark.parametrize("contents", [["/etc/hosts"], {"/etc/hosts": 1}])
def test_contents_are_texts(rootfs, contents) -> None:
    with pytest.raises(Refusal):
        give(rootfs, contents=contents)


def test_mounts_of_others_stay(rootfs) -> None:
    assert len(give(rootfs, "/etc/passwd")) == 1


@pytest.mark.parametrize("kind", ["link", "directory", "absent", "linked directory", "pipe"])
def test_no_link_leads_out_of_a_root(rootfs, tmp_path, kind) -> None:
    outside = tmp_path / "hosts"
    outside.touch()
    if kind == "link":
        (rootfs / "etc/hosts").symlink_to(outside)
    elif kind == "directory":
        (rootfs / "etc/hosts").mkdir()
    elif kind == "linked directory":
        (rootfs / "etc").rmdir()
        (rootfs / "etc").symlink_to(tmp_path)
    elif kind == "pipe":
        os.mkfifo(rootfs / "etc/hosts")
    assert give(rootfs) == []
    assert outside.read_text() == ""


DISK = {
    "name": "vdb",
    "link": "virtio-a07f71dc-8151-4e7d-a",
    "major": 7,
    "minor": 3,
    "access": "rw",
    "rates": [0, 5, 0, 0],
}


def test_a_volume_is_a_node_and_a_rule_for_exactly_that_device() -> None:
    config = {"linux": {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}, "root": {"path": "rootfs"}}
    editor.give_devices(config, "/bundle", [DISK])
    number = {"major": 7, "minor": 3}
    node = {"path": "/dev/vdb", "type": "b", "fileMode": 0o660, "uid": 0, "gid": 6}
    assert config["linux"]["devices"] == [node | number]
    resources = config["linux"]["resources"]
    assert resources["devices"] == [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "b", "access": "rw"} | number,
    ]
    assert resources["blockIO"] == {"throttleWriteBpsDevice": [{"rate": 5} | number]}
    (hook,) = config["hooks"]["createContainer"]
    assert hook["args"][-3:] == ["/bundle/rootfs", "vdb", "virtio-a07f71dc-8151-4e7d-a"]


@pytest.mark.parametrize("link", ["dev", "dev/disk", "dev/disk/by-id"])
def test_links_of_volumes_never_land_where_the_image_points(tmp_path, link) -> None:
    (tmp_path / "outside").mkdir()
    config = {"linux": {}, "root": {"path": "rootfs"}}
    editor.give_devices(config, str(tmp_path), [DISK])
    (hook,) = config["hooks"]["createContainer"]
    root = tmp_path / "rootfs"
    root.mkdir()
    subprocess.run([hook["path"], *hook["args"][1:]], check=True)
    made = root / "dev/disk/by-id" / DISK["link"]
    assert str(made.readlink()) == "../../vdb"
    shutil.rmtree(root / "dev")
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(tmp_path / "outside")
    assert subprocess.run([hook["path"], *hook["args"][1:]], check=False).returncode
    assert not list((tmp_path / "outside").iterdir())


def test_without_volumes_nothing_changes() -> None:
    config = {"linux": {}, "root": {"path": "rootfs"}, "hooks": {}}
    editor.give_devices(config, "/bundle", [])
    assert config == {"linux": {}, "root": {"path": "rootfs"}, "hooks": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"major": None},
        {"minor": -1},
        {"minor": True},
        {"minor": "3"},
        {"name": "sda"},
        {"name": "../vdb"},
        {"link": "virtio-../x"},
        {"access": "rwm"},
        {"rates": [0]},
        {"type": "a"},
    ],
    ids=str,
)
def test_refuses_a_device_that_is_no_volume(change) -> None:
    with pytest.raises(Refusal):
        editor.give_devices({"linux": {}, "root": {"path": "rootfs"}}, "/bundle", [DISK | change])


def test_what_the_runtime_would_refuse_in_proc_is_left_to_the_hook(tmp_path) -> None:
    source = tmp_path.resolve() / "partitions"
    source.touch()
    mount = {"source": str(source), "destination": "/proc/partitions", "type": "bind", "options": ["bind", "ro"]}
    config = {"linux": {}}
    assert editor.add_mounts(config, [mount], [str(tmp_path.resolve())]) == [(str(source), "/proc/partitions")]
    assert config["mounts"] == []


@pytest.mark.parametrize("wanted", [[], {}, {"major": 7, "minor": 1}, {"major": 7, "minor": "1", "rates": [0] * 4}])
def test_a_root_file_system_is_on_a_device_with_numbers(tmp_path, wanted) -> None:
    with pytest.raises(Refusal, match=r"root file system|no numbers"):
        editor.take_root({"root": {"path": "rootfs"}, "linux": {}}, str(tmp_path), wanted)
    assert not list(tmp_path.iterdir())


def test_without_a_volume_the_root_is_the_engines(tmp_path) -> None:
    config = {"root": {"path": "rootfs"}, "linux": {}}
    editor.take_root(config, str(tmp_path), None)
    assert config == {"root": {"path": "rootfs"}, "linux": {}}


def test_a_device_without_ext4_is_no_root(tmp_path) -> None:
    device = tmp_path / "device"
    device.write_bytes(bytes(8192))
    with pytest.raises(Refusal, match="no ext4"):
        editor.check_root(str(device))


def test_the_label_of_a_volume_to_be_filled_is_the_drivers() -> None:
    assert editor.HALF_LABEL == names.HALF_LABEL
