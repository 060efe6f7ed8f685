# SPDX-License-Identifier: Apache-2.0
"""What runc is told of a machine: a container in which systemd is the first process, with an engine of its own; pure.

It sees only what is below itself of the machine's cgroups, and mounts nothing of it: where a container gets the
directory /sys/fs/cgroup itself, its systemd changes the mounts of the machine that runs the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CGROUP = "/dockstack-machines"
INIT = ("/lib/systemd/systemd",)
DEVICES = (("/dev/net/tun", 10, 200), ("/dev/fuse", 10, 229))
# By their numbers, see capabilities(7); "" is one that would reach out of a machine: its kernel and clock are ours.
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("", "", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE"),
    *("", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
)
SHELL_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def specification(
    name: str, root: str, network: str, volumes: Mapping[str, str], capabilities: Iterable[str]
) -> dict[str, Any]:
    """Return the content of config.json.

    Args:
        name: the machine's hostname.
        root: the directory that is its file system.
        network: the file of its network namespace.
        volumes: directories of the machine that runs the tests, by where they are seen.
        capabilities: all that may be given.
    """
    owned = sorted(capabilities)
    return {
        "ociVersion": "1.0.2",
        "hostname": name,
        "root": {"path": root},
        "process": {
            "args": list(INIT),
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "env": [SHELL_PATH, "container=oci"],  # which systemd looks for
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), owned),
        },
        "mounts": [
            _mount("/proc", "proc"),
            _mount("/sys", "sysfs", "nosuid", "noexec", "nodev"),
            _mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "rw"),
            _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            _mount("/dev/shm", "tmpfs", "nosuid", "nodev", "mode=1777"),
            _mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            *(_mount(place, "tmpfs", "nosuid", "nodev", "mode=755") for place in ("/run", "/run/lock")),
            _mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777"),
            *(
                {"destination": place, "type": "bind", "source": source, "options": ["rbind", "rw"]}
                for place, source in volumes.items()
            ),
        ],
        "linux": {
            "cgroupsPath": f"{CGROUP}/{name}",
            "rootfsPropagation": "shared",  # as systemd has it on a machine; mounts of LXCFS depend on it
            "namespaces": [
                *({"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")),
                {"type": "network", "path": network},
            ],
            "devices": [
                {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666}
                for path, major, minor in DEVICES
            ],
            "resources": {"devices": [{"allow": True, "access": "rwm"}]},
        },
    }


def _mount(place: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": kind, "options": list(options)}
