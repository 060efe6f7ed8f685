# SPDX-License-Identifier: Apache-2.0
"""Machines of the tests' own: systemd, sshd and an engine of its own in each, on a network that leads to the index.

One run at a time has a laboratory; what a killed one has left, the next one removes before it begins. With
DOCKSTACK_MACHINES_KEEP=1, machines stay, and such a run takes over those that are there, as they are: for work on a
test that comes late in their life.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import container
import images
import lan

CHECKOUT = Path(__file__).resolve().parents[2]
RUNNING = images.CACHE / "running"
KNOWN = RUNNING / "machines.json"  # name, number and distribution of each that runs
LOCK = images.CACHE / "lock"
# How many times longer than on a quiet machine everything may take.
PATIENCE = float(os.environ.get("DOCKSTACK_MACHINES_PATIENCE", "1"))
KEEP = bool(os.environ.get("DOCKSTACK_MACHINES_KEEP"))
RUNC = ("runc", "--root", "/run/dockstack-machines")
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
# What says where the package index is and how to reach it; what names a file names that of the authorities.
PASSED_ON = ("PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT", "UV_DEFAULT_INDEX", "http_proxy", "https_proxy", "no_proxy")
AUTHORITY_OPTIONS = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
SHELL = {"PATH": container.SHELL_PATH.removeprefix("PATH="), "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
ADMIN = "useradd -m -s /bin/bash admin && cp -a /root/.ssh /home/admin/ && chown -R admin: /home/admin/.ssh"
# What is in /etc/environment comes as far as a login; a site that needs it writes this.
SUDOERS = 'admin ALL=(ALL) NOPASSWD: ALL\nDefaults env_keep += "{names}"\n'
TUNNEL_BRIDGE = """\
[Unit]
Description=An address for tunnels on a bridge of Open vSwitch
[Service]
ExecStart=/bin/sh -c 'until ovs-vsctl --timeout=9 --may-exist add-br br-tunnel \
 -- set Bridge br-tunnel datapath_type=netdev -- --may-exist add-port br-tunnel eth1 \
 && ip address replace {address}/24 dev br-tunnel && ip link set br-tunnel up; do sleep 1; done'
[Install]
WantedBy=multi-user.target
"""


class Machine:
    """One machine.

    Args:
        name: its hostname.
        number: the last part of its addresses.
        distribution: as dockstack's table has it.
    """

    def __init__(self, name: str, number: int, distribution: str) -> None:
        self.name = name
        self.address, self.tunnel_address = lan.address(number), lan.tunnel_address(number)
        self._number = number
        self._distribution = distribution
        self._directory = RUNNING / name
        self.root = self._directory / "root"

    def start(self, public_key: str) -> None:
        """Switch it on for the first time, and wait until it lets somebody log in."""
        lan.join(self.name, self._number)
        below = [self._directory / name for name in ("upper", "work", "docker")]
        for place in (*below, self.root):
            place.mkdir(parents=True)
        layers = f"lowerdir={images.tree(self._distribution)},upperdir={below[0]},workdir={below[1]}"
        _run("mount", "-t", "overlay", "-o", layers, "overlay", str(self.root))
        self._furnish(public_key)
        # Where the file system of the machine is laid over another, an engine's cannot be.
        volumes = {"/var/lib/docker": str(below[2]), "/root/.cache/uv": str(images.shared("uv"))}
        told = container.specification(
            self.name, str(self.root), str(lan.namespace(self.name)), volumes, _capabilities()
        )
        (self._directory / "config.json").write_text(json.dumps(told))
        self.power_on()
        self.run(ADMIN)

    def power_on(self) -> None:
        """Switch it on, and wait until it lets somebody log in."""
        with (self._directory / "console").open("a") as console:
            run = (*RUNC, "run", "--detach", "--bundle", str(self._directory), self.name)
            subprocess.run(run, check=True, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        wait_for(self._answers, f"SSH on {self.name}", 120)

    @property
    def is_on(self) -> bool:
        return _try(*RUNC, "exec", self.name, "true")

    def power_off(self) -> None:
        """Pull the plug."""
        _run(*RUNC, "delete", "--force", self.name)

    def run(self, line: str, *, check: bool = True, stdin: str | None = None, timeout: float = 600):
        """Run a line of shell in it, as root, without its network; return what came of it."""
        done = subprocess.run(
            self.command(line),
            check=False,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout * PATIENCE,
        )
        assert done.returncode == 0 or not check, f"{self.name}: {line}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def command(self, line: str) -> list[str]:
        """Return the words that run a line of shell in it."""
        options = [f"--env={name}={value}" for name, value in (SHELL | _index()).items()]
        return [*RUNC, "exec", "--cwd=/root", *options, self.name, "bash", "-c", line]

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Write a file in it, before it runs or while it does."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
        place.chmod(mode)

    @property
    def as_known(self) -> tuple[str, int, str]:
        """What it takes to find it again."""
        return self.name, self._number, self._distribution

    @property
    def known_hosts_line(self) -> str:
        return f"{self.address} {(self.root / 'etc/ssh/ssh_host_ed25519_key.pub').read_text()}"

    def _furnish(self, public_key: str) -> None:
        self.write("/etc/hostname", f"{self.name}\n")
        self.write("/etc/machine-id", f"{uuid.uuid4().hex}\n")  # without one, systemd takes it for its first boot
        self.write("/etc/hosts", f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        self.write("/etc/resolv.conf", Path("/etc/resolv.conf").read_text())
        self.write("/etc/environment", "".join(f"{name}={value}\n" for name, value in _index().items()))
        self.write(AUTHORITIES, Path(AUTHORITIES).read_text())
        self.write("/etc/pip.conf", f"[global]\ncert = {AUTHORITIES}\n")
        self.write("/etc/sudoers.d/admin", SUDOERS.format(names=" ".join(_index())), 0o440)
        self.write("/etc/systemd/system/tunnel-bridge.service", TUNNEL_BRIDGE.format(address=self.tunnel_address))
        wants = self.root / "etc/systemd/system/multi-user.target.wants"
        (wants / "tunnel-bridge.service").symlink_to("../tunnel-bridge.service")
        (self.root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
        self.write("/root/.ssh/authorized_keys", public_key)
        host_key = str(self.root / "etc/ssh/ssh_host_ed25519_key")
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", host_key)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, 22), 2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False


class Laboratory:
    """The machines of one run, by name, and the key that opens all of them."""

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        known = json.loads(KNOWN.read_text()) if KNOWN.exists() else []
        self._kept = {name: Machine(name, number, distribution) for name, number, distribution in known}
        if not (RUNNING / "key").exists():
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", str(RUNNING / "key"))

    def machine(self, name: str, distribution: str) -> Machine:
        """Return a machine that runs: a new one, or one that was kept."""
        if name in self._kept:
            kept = self.machines[name] = self._kept[name]
            if not kept.is_on:
                kept.power_on()
            return kept
        number = 10 + len(self._kept)
        made = self.machines[name] = self._kept[name] = Machine(name, number, distribution)
        made.start((RUNNING / "key.pub").read_text())
        KNOWN.write_text(json.dumps([one.as_known for one in self._kept.values()]))
        return made

    def give_key(self, machine: Machine, others: tuple[Machine, ...]) -> None:
        """Let one machine log in to others, whose host keys it knows."""
        machine.write("/root/.ssh/id_ed25519", (RUNNING / "key").read_text(), 0o600)
        machine.write("/root/.ssh/known_hosts", "".join(other.known_hosts_line for other in others))

    def give_checkout(self, machine: Machine) -> None:
        """Let a machine have dockstack as somebody has it who has cloned it."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=CHECKOUT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        for name in filter(None, listed):
            if (CHECKOUT / name).is_file():  # not one that is about to be deleted, nor a link to an environment
                place = machine.root / "root/dockstack" / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, place)


@contextmanager
def laboratory():
    """Have a laboratory for the time of the block."""
    images.CACHE.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (KEEP and KNOWN.exists()):
            clear()
            RUNNING.mkdir()
            lan.set_up()
        try:
            yield Laboratory()
        finally:
            if not KEEP:
                clear()


def clear() -> None:
    """Remove all machines and their network, of whichever run."""
    listed = subprocess.run([*RUNC, "list", "--quiet"], check=True, capture_output=True, text=True).stdout
    for name in listed.split():
        # It waits for the end of all processes for some seconds only.
        wait_for(lambda one=name: _try(*RUNC, "delete", "--force", one), f"the end of {name}", 120)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in [mount for mount in mounts if mount.startswith(f"{RUNNING}/")]:
        _run("umount", mount)
    hierarchies = Path("/sys/fs/cgroup")  # one, or one for each controller
    for group in (*hierarchies.glob(container.CGROUP[1:]), *hierarchies.glob(f"*{container.CGROUP}")):
        for place, _, _ in os.walk(group, topdown=False):
            Path(place).rmdir()
    lan.take_down()
    if RUNNING.exists():
        shutil.rmtree(RUNNING)


def wait_for(condition, what: str, timeout: float):
    """Poll until a condition returns something true; return that."""
    deadline = time.monotonic() + timeout * PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout * PATIENCE} s"
        time.sleep(0.2)
    return found


def _index() -> dict[str, str]:
    given = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return given | dict.fromkeys(AUTHORITY_OPTIONS, AUTHORITIES)


def _capabilities() -> list[str]:
    """Return what this process may hand on."""
    status = Path("/proc/self/status").read_text()
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:")), 16)
    return [f"CAP_{name}" for number, name in enumerate(container.CAPABILITIES) if name and mask >> number & 1]


def _try(*command: str) -> bool:
    return subprocess.run(command, check=False).returncode == 0


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
