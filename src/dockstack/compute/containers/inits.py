# SPDX-License-Identifier: Apache-2.0
"""The inits of whole systems, and what each needs to run one in a container.

An image says ``/sbin/init`` whatever that is, so where the path leads tells: systemd, OpenRC, busybox.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

_NAMES = ("init", "systemd", "openrc-init", "runit-init", "s6-svscan")

# Programs in /run may run, as on a machine: an init may go on from there.
RUN = {"/run": "rw,exec,nosuid,nodev,mode=755"}


@dataclass(frozen=True)
class Init:
    """What an init needs beside an empty /run and the right to call reboot(2).

    Attributes:
        stop_signal: what it takes for the wish to switch off, unless image or request say otherwise.
        tty: it writes to /dev/console, and has logins there.
        tmpfs: what is empty at each boot, with mount options.
        environment: what tells it that it is in a container; ``{uuid}`` stands for the server's.
        own_groups: it makes control groups.
    """

    stop_signal: str = ""
    tty: bool = False
    tmpfs: dict[str, str] = field(default_factory=lambda: dict(RUN))
    environment: dict[str, str] = field(default_factory=dict)
    own_groups: bool = False


SYSTEMD, OPENRC, BUSYBOX = "systemd", "openrc", "busybox"
# Of an init that nobody knows: a script, SysV's, runit.
UNKNOWN = Init()
KNOWN = {
    # https://systemd.io/CONTAINER_INTERFACE, and systemd(1), "Signals"
    SYSTEMD: Init(
        stop_signal="SIGRTMIN+3",
        tty=True,
        tmpfs={
            **RUN,
            "/run/lock": "rw,noexec,nosuid,nodev,mode=1777,size=5242880",
            "/tmp": "rw,exec,nosuid,nodev,mode=1777",
        },
        environment={"container": "docker", "container_uuid": "{uuid}"},
        own_groups=True,
    ),
    # openrc-init(8): SIGTERM, the default, shuts down
    OPENRC: Init(tty=True, environment={"container": "docker"}),
    # busybox, init/init.c: SIGUSR2 switches off, SIGTERM reboots
    BUSYBOX: Init(stop_signal="SIGUSR2", tty=True, environment={"container": "docker"}),
}
_PROGRAMS = {"systemd": SYSTEMD, "openrc-init": OPENRC, "busybox": BUSYBOX}


def is_init(program: str) -> bool:
    """Whether a program is called as an init is, which starts what its image has installed."""
    return PurePosixPath(program).name in _NAMES


def is_systems(program: str) -> bool:
    """Whether it is called as the init of a whole system is.

    /init and s6's supervisor are made for containers, where no engine mounts anything on /run, and clean up themselves.
    """
    return is_init(program) and program != "/init" and PurePosixPath(program).name != "s6-svscan"


def recognise(path: str) -> str:
    """Say which init a file is, all links followed; empty if it is none of those that need more than others."""
    return _PROGRAMS.get(PurePosixPath(path).name, "")


def find(name: str) -> Init:
    """Return what an init needs, by the name that ``recognise`` gave it."""
    return KNOWN.get(name, UNKNOWN)
