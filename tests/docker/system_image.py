# SPDX-License-Identifier: Apache-2.0
"""A small Debian with systemd as its init, made of the distribution's packages; kept outside the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path

from dockstack.deploy import system_image

CACHE = Path(os.environ.get("DOCKSTACK_TEST_IMAGES", "/var/cache/dockstack-test-images"))
LEFT_OUT = ("doc", "man", "locale", "info", "bash-completion", "zoneinfo")
# What services ask for that shall be kept from the rest of their system: none of it can be had here; it starts.
GUARDED = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo guarded > /run/guarded'
PrivateTmp=yes
PrivateUsers=yes
PrivateNetwork=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
NoNewPrivileges=yes
ReadWritePaths=/run
[Install]
WantedBy=multi-user.target
"""
DROP_IN = Path(system_image.__file__).with_name("rootfs") / "etc/systemd/system/service.d/dockstack.conf"
RECIPE = (
    "mmdebstrap",
    "--quiet",
    "--variant=essential",
    "--include=systemd,systemd-sysv,dbus",
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
    f'--customize-hook=printf %s "{GUARDED}" > "$1/etc/systemd/system/guarded.service"',
    '--customize-hook=mkdir "$1/etc/systemd/system/service.d"',
    f'--customize-hook=printf %s "{DROP_IN.read_text()}" > "$1/etc/systemd/system/service.d/dockstack.conf"',
    '--customize-hook=chroot "$1" systemctl enable guarded.service',
    '--customize-hook=chroot "$1" passwd --delete root',
    "--format=tar",
    "bookworm",
)


def archive() -> Path:
    """Return the tar of its root file system, made if it is not there; whoever makes it already is waited for."""
    CACHE.mkdir(parents=True, exist_ok=True)
    place = CACHE / f"systemd-{hashlib.sha256(repr(RECIPE).encode()).hexdigest()[:12]}.tar"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            for old in CACHE.glob("systemd-*"):
                old.unlink()
            part = place.with_suffix(".part")
            with part.open("wb") as file:
                done = subprocess.run(RECIPE, check=False, stdout=file, stderr=subprocess.PIPE, text=True)
            assert done.returncode == 0, done.stderr[-3000:]
            part.rename(place)
    return place
