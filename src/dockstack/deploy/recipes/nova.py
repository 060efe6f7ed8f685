# SPDX-License-Identifier: Apache-2.0
"""Nova without its compute node: cells, APIs, conductor and scheduler."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import desired_state, programs
from dockstack.deploy.configuration.nova import (
    API_PASTE_FILE,
    STATE_DIRECTORY,
    nova_conf,
    nova_db_conf,
    novncproxy_conf,
    serialproxy_conf,
)
from dockstack.deploy.configuration.privilege import sudoers
from dockstack.deploy.recipes.controller import (
    PYTHON,
    copy_paste_file,
    install_script,
    migrate,
    provision_once,
    write_api_file,
    write_configuration,
)
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

CONF = "/etc/nova/nova.conf"
DATABASE_CONF = "/etc/nova/nova-db.conf"
SERIAL_PROXY_CONF = "/etc/nova/nova-serialproxy.conf"
NOVNC_PROXY_CONF = "/etc/nova/nova-novncproxy.conf"
APIS = {"nova-api", "nova-metadata"}
SHARED_PAGE = ("console.css", "page.mjs")
PAGE = ("index.html", "console.mjs", *SHARED_PAGE)
PAGE_VENDOR = ("vendor/LICENSE", "vendor/addon-fit.mjs", "vendor/xterm.css", "vendor/xterm.mjs")
VNC_PAGE = ("vnc.html", "vnc.mjs")
NOVNC = "novnc-1.7.0.tgz"
NOVNC_SHA512 = (
    "ucEJOx4T2avIRCleodk7YobZj5O2Ga2AeLfQ69A/yjG9HHba2+PDgwSkN3FttrmG+70ZGx21sElNFouK13RzyA=="  # as npm has it
)


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages of Nova's control plane."""
    if not node.has(Role.CONTROLLER):
        return ()
    return (
        Stage(
            "nova-files",
            "Configuring Nova",
            configure,
            ("accounts", "packages", "openstack-environment"),
            phase="configure",
        ),
        Stage(
            "nova-database",
            "Migrating Nova's databases",
            migrate_database,
            ("nova-files", "database"),
            phase="databases",
        ),
        Stage(
            "nova",
            "Starting Nova's APIs",
            start_apis,
            ("nova-database", "token-cache"),
            phase="services",
        ),
        # Started before the catalogue is there, they would give up on Placement for good.
        Stage(
            "nova-daemons",
            "Starting Nova's conductor and scheduler",
            start_daemons,
            ("nova-database", "token-cache", "identity"),
            phase="services",
        ),
        Stage("flavors", "Making flavors", flavors, ("nova", "identity"), phase="cloud"),
    )


def configure(machine: Machine) -> None:
    """Write the files and the sudo rule of the privileged helpers."""
    settings = settings_of(machine)
    for name in ("instances", "lock"):
        machine.directory(f"{STATE_DIRECTORY}/{name}", owner="nova")
    files = {
        CONF: nova_conf(settings),
        DATABASE_CONF: nova_db_conf(settings),
        SERIAL_PROXY_CONF: serialproxy_conf(),
        NOVNC_PROXY_CONF: novncproxy_conf(),
    }
    write_configuration(machine, "nova", files)
    place_console_page(machine)
    place_vnc_page(machine)
    copy_paste_file(machine, "nova/api-paste.ini", API_PASTE_FILE, "nova")
    install_script(machine, programs.NOVA_CONDUCTOR)
    for api in sorted(APIS):
        write_api_file(machine, settings, api)
    machine.file("/etc/sudoers.d/dockstack-nova", sudoers(settings, "nova"), mode=0o440)


def place_console_page(machine: Machine) -> None:
    """Have the page with a terminal where the serial proxy serves it from."""
    source = resources.files("dockstack.deploy") / "web" / "console"
    machine.directory(f"{paths.CONSOLE_PAGE}/vendor")
    for name in (*PAGE, *PAGE_VENDOR):
        machine.file(f"{paths.CONSOLE_PAGE}/{name}", (source / name).read_bytes())


def place_vnc_page(machine: Machine) -> None:
    """Have the page with noVNC's client where the noVNC proxy serves it from."""
    source, vendor = resources.files("dockstack.deploy") / "web", f"{paths.VNC_PAGE}/vendor"
    machine.directory(vendor)
    for name in VNC_PAGE:
        machine.file(f"{paths.VNC_PAGE}/{name}", (source / "vnc" / name).read_bytes())
    for name in SHARED_PAGE:
        machine.file(f"{paths.VNC_PAGE}/{name}", (source / "console" / name).read_bytes())
    machine.file(f"{vendor}/{NOVNC}", (source / "vnc/vendor" / NOVNC).read_bytes())
    machine.once("novnc", NOVNC_SHA512, lambda: unpack_novnc(machine), unless=f"test -e {vendor}/novnc/core/rfb.js")


def unpack_novnc(machine: Machine) -> None:
    """Put noVNC's files beside their package."""
    vendor = f"{paths.VNC_PAGE}/vendor"
    machine.manifest.made("directory", f"{vendor}/novnc")
    machine.command(["rm", "-rf", f"{vendor}/novnc"])
    machine.directory(f"{vendor}/novnc")
    unpack = ["tar", "-xzf", f"{vendor}/{NOVNC}", "-C", f"{vendor}/novnc", "--strip-components=1", "--no-same-owner"]
    machine.command([*unpack, "--mode=u=rwX,go=rX"])


def migrate_database(machine: Machine) -> None:
    """Bring all three databases to the installed version and map both cells."""
    script = install_script(machine, "nova_database")
    command = (PYTHON, script, "--config-file", CONF, "--config-file", DATABASE_CONF)
    migrate(machine, settings_of(machine), "nova", "nova", command, title="Migrating Nova's databases")


def start_apis(machine: Machine) -> None:
    """Have the compute and the metadata API running."""
    for service in programs.nova_control(settings_of(machine)):
        if service.name in APIS:
            ensure_running(machine, service)


def start_daemons(machine: Machine) -> None:
    """Have conductor and scheduler running."""
    for service in programs.nova_control(settings_of(machine)):
        if service.name not in APIS:
            ensure_running(machine, service)


def flavors(machine: Machine) -> None:
    """Make the first flavors."""
    provision_once(machine, "flavors", desired_state.flavors(settings_of(machine)))
