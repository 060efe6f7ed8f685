# SPDX-License-Identifier: Apache-2.0
"""``dockstack test``: the layers of the project's tests, and what each needs brought up first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from dockstack.deploy.paths import ENVIRONMENT_FILE, SAVED_OPTIONS
from dockstack.deploy.wanted.inventory import load
from dockstack.errors import DockstackError

CHECKOUT = Path(__file__).resolve().parents[1]
PYTEST_NO_TESTS = 5
HOSTS = 2 if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") > 6 << 30 else 1
"""Of the cloud that is tested; the tests of a second one are skipped where the memory is too small for it."""
# What the tests themselves call or read, and the package that has it; what starts services comes with `dockstack up`.
ALWAYS = {
    "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf": "fonts-dejavu-core",
    "git": "git",
    "ps": "procps",
}
FOR_ROOT = {
    "btrfs": "btrfs-progs",
    "busybox": "busybox-static",
    "cryptsetup": "cryptsetup-bin",
    "lxcfs": "lxcfs",
    "mkfs.fat": "dosfstools",
    "mmdebstrap": "mmdebstrap",
    "ping": "iputils-ping",
    "qemu-storage-daemon": "qemu-system-common",
    "ssh": "openssh-client",
}
# Tests that want one of these are skipped, and say so, where nobody may install it: images of volumes, registries
FOR_IMAGES = {"buildah": "buildah", "podman": "podman", "qemu-img": "qemu-utils", "skopeo": "skopeo"}
FOR_AGENTS = {"conntrack": "conntrack"}
FOR_MACHINES = {
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "iptables": "iptables",
    "runc": "runc",
    "ssh-keygen": "openssh-client",
}
FOR_SUITES = {
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "mmdebstrap": "mmdebstrap",
}
SEARCH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
ENGINE_PROGRAMS = ("dockerd", "haproxy", "ovs-vswitchd")


@dataclass(frozen=True)
class Layer:
    """One layer of tests."""

    name: str
    purpose: str
    needs_root: bool
    needs_cloud: bool
    arguments: tuple[str, ...] = ()
    release: str = ""  # whose Nova the functional tests run in; "" if they need none
    nightly: bool = False  # runs only when it is named
    has_machines: bool = False  # of its own, in which what it needs is installed
    suite: str = ""  # of Debian, whose engine the tests start; "" for this machine's

    @property
    def folder(self) -> str:
        """The folder of tests below ``tests``: a layer may be another's tests with another Nova."""
        return self.name.partition("-")[0]


LAYERS = (
    Layer("unit", "pure logic, linters and import rules", False, False, ("-n", "2")),
    Layer("functional", "the driver inside Nova's own code, in one process", False, False, ("-n", "2"), "2026.2"),
    Layer(
        "functional-nightly",
        "those of them that take long",
        False,
        False,
        ("-n", "2", "--nightly", "-m", "nightly"),
        "2026.2",
        nightly=True,
    ),
    Layer("functional-2026.1", "the same with Nova 33", False, False, ("-n", "2"), "2026.1", nightly=True),
    Layer("docker", "against a real engine of the tests' own", True, False),
    Layer("docker-trixie", "the same with the engine of Debian 13", True, False, nightly=True, suite="trixie"),
    Layer("docker-sid", "the same with the newest engine that Debian has", True, False, nightly=True, suite="sid"),
    Layer("cloud", "against the cloud that `dockstack up` builds", True, True),
    Layer(
        "machines", "nodes that join a cloud, on machines of their own", True, False, nightly=True, has_machines=True
    ),
    Layer(
        "machines-short",
        "one cloud on three of them, from its first `up` to its end",
        True,
        False,
        ("-m", "short"),
        nightly=True,
        has_machines=True,
    ),
    Layer("agents", "Neutron's agents on nodes of a cloud with ML2/OVS", True, True, nightly=True),
)


@dataclass(frozen=True)
class Outcome:
    """What a layer's run came to."""

    layer: Layer
    passed: int
    failed: int
    skipped: int
    seconds: float

    @property
    def good(self) -> bool:
        """A layer that ran nothing has not passed."""
        return self.failed == 0 and self.passed > 0


@click.command()
@click.argument("layers", nargs=-1, type=click.Choice([layer.name for layer in LAYERS]))
@click.option("-k", "expression", help="Run only tests whose names match (pytest's -k).")
@click.option("-x", "--exitfirst", is_flag=True, help="Stop a layer at its first failure.")
def test(layers: tuple[str, ...], expression: str | None, exitfirst: bool) -> None:
    """Run the project's tests: all LAYERS but the nightly ones, or those named.

    \b
    unit               pure logic, linters, import rules      no root    under a minute
    functional         the driver inside Nova's own code      no root
    functional-nightly those of them that take long           no root    nightly
    functional-2026.1  the same with Nova 33                  no root    nightly
    docker             a real engine of the tests' own        root
    docker-trixie      the same with the engine of Debian 13  root, nightly
    docker-sid         the same with the engine of Debian sid root, nightly
    cloud              the cloud that `dockstack up` builds   root, brings it up
    machines           a cloud and its nodes, on machines     root, nightly
    machines-short     what one job of 15 minutes has time for root, nightly
    agents             Neutron's agents, with ML2/OVS         root, nightly, brings a cloud up
    """  # noqa: D301 - click wants the character itself, in front of a paragraph that it leaves as it is
    chosen = [layer for layer in LAYERS if (layer.name in layers if layers else not layer.nightly)]
    refuse_without_root(chosen)
    extra = [*(["-k", expression] if expression else []), *(["-x"] if exitfirst else [])]
    outcomes = []
    for layer in chosen:
        click.secho(f"\n== {layer.name}: {layer.purpose}", bold=True)
        outcomes.append(run(layer, extra))
    summarise(outcomes)
    if not all(outcome.good for outcome in outcomes):
        sys.exit(1)


def refuse_without_root(layers: list[Layer]) -> None:
    """Say before anything runs that a layer needs root."""
    rooted = [layer.name for layer in layers if layer.needs_root]
    if rooted and os.geteuid() != 0:
        raise DockstackError(
            f"The layers {', '.join(rooted)} need root: they run a container engine and network namespaces.",
            "Run `sudo ./dockstack test`, or only `./dockstack test unit functional`.",
        )


def run(layer: Layer, extra: list[str]) -> Outcome:
    """Bring up what the layer needs, run pytest on its folder and count from its report."""
    started = time.monotonic()
    if layer.has_machines:
        provide(ALWAYS | FOR_MACHINES)
    else:
        further = FOR_AGENTS if layer.name == "agents" else {}
        if layer.release and os.geteuid() == 0:
            further = FOR_IMAGES
        provide(ALWAYS | further | (FOR_ROOT if layer.needs_root else {}))
        if layer.needs_cloud or (layer.needs_root and not all(shutil.which(name) for name in ENGINE_PROGRAMS)):
            bring_up(HOSTS if layer.needs_cloud else 1)
    report = CHECKOUT / ".pytest_cache" / f"dockstack-{layer.name}.xml"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    python = functional_python(layer.release) if layer.release else sys.executable
    enter, environment = engine_of(layer.suite) if layer.suite else ([], {})
    tests = [python, "-m", "pytest", f"tests/{layer.folder}", f"--junitxml={report}", *layer.arguments, *extra]
    settings = {**os.environ, **environment}
    status = subprocess.run([*enter, *tests], cwd=CHECKOUT, env=settings, check=False).returncode
    passed, failed, skipped = count(report)
    if status not in (0, PYTEST_NO_TESTS) and failed == 0:
        failed = 1  # the runner itself broke: a collection error, a signal
    return Outcome(layer, passed, failed, skipped, time.monotonic() - started)


def functional_python(release: str) -> str:
    """Nova's test base classes live in an environment of their own; make it if need be."""
    made = printed_by("tests/functional/prepare.py", "--release", release)
    if not made:
        raise DockstackError("The functional tests' environment could not be made.", "See the message above.")
    return made


def engine_of(suite: str) -> tuple[list[str], dict[str, str]]:
    """Fetch the engine of a Debian suite; return what to run the tests with, and which variables tell them of it."""
    provide(FOR_SUITES)
    root = printed_by("tests/docker/engine_root.py", suite)
    if not root:
        raise DockstackError(f"The engine of Debian {suite} could not be fetched.", "See the message above.")
    # Engines have mounts of their own there, and must see those that the tests make.
    return ["unshare", "--mount", "--propagation=shared"], {"DOCKSTACK_ENGINE_ROOT": root}


def printed_by(script: str, *arguments: str) -> str:
    """Run a script of the tests that prepares something; return the last line that it prints, "" if it fails."""
    command = [sys.executable, str(CHECKOUT / script), *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, check=False, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().rpartition("\n")[2] if done.returncode == 0 else ""


def provide(programs: dict[str, str]) -> None:
    """Install what the tests call or read, if it is missing: a name is looked for on the search path, a path is not."""
    found = partial(shutil.which, mode=os.F_OK, path=SEARCH)
    missing = [package for program, package in programs.items() if found(program) is None]
    if not missing:
        return
    if os.geteuid() != 0:
        raise DockstackError(
            f"The tests need {', '.join(missing)}, which this machine does not have.",
            f"As root: apt-get install --no-install-recommends {' '.join(missing)}",
        )
    click.echo(f"Installing {', '.join(missing)} for the tests")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    install = ["apt-get", "install", "-qq", "--no-install-recommends", *missing]
    if subprocess.run(install, env=environment, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        raise DockstackError(f"The packages {', '.join(missing)} could not be installed.", "See apt's message above.")


def bring_up(hosts: int) -> None:
    """`dockstack up`, as a user would, with so many hosts or those that it has; a second run is a no-op in seconds."""
    present = load(ENVIRONMENT_FILE, (), saved_options=SAVED_OPTIONS).local.attributes.number("hosts")
    more = ["--hosts", str(hosts)] if present < hosts else []
    if subprocess.run([str(CHECKOUT / "dockstack"), "up", *more], cwd=CHECKOUT, check=False).returncode != 0:
        raise DockstackError("The cloud did not come up, so its tests cannot run.", "See above; then run this again.")


def count(report: Path) -> tuple[int, int, int]:
    """Read (passed, failed, skipped) from a JUnit report; errors count as failed."""
    if not report.exists():
        return 0, 0, 0
    suites = list(ET.parse(report).getroot().iter("testsuite"))  # noqa: S314 - pytest of ours wrote it
    total, failures, errors, skipped = (
        sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    )
    return total - failures - errors - skipped, failures + errors, skipped


def summarise(outcomes: list[Outcome]) -> None:
    """A line a layer, then the total in the plain form that any CI reads."""
    click.echo()
    for outcome in outcomes:
        word = click.style("ok    ", fg="green") if outcome.good else click.style("failed", fg="red", bold=True)
        numbers = f"{outcome.passed:5} passed {outcome.failed:3} failed {outcome.skipped:3} skipped"
        click.echo(f"{outcome.layer.name:17} {word} {numbers} {outcome.seconds:7.1f} s")
    passed, failed, skipped = (sum(getattr(o, key) for o in outcomes) for key in ("passed", "failed", "skipped"))
    click.echo(f"{passed} passed, {failed} failed, {skipped} skipped")
