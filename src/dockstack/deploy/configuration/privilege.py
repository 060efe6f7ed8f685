# SPDX-License-Identifier: Apache-2.0
"""How a service without root does the few things that only root may: privsep helpers, started by a narrow sudo rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockstack.deploy.configuration.ini import Ini
    from dockstack.deploy.configuration.settings import Settings

_CONFIG_FILES = {
    "nova": "/etc/nova/nova.conf",
    "neutron": "/etc/neutron/neutron.conf",
    "cinder": "/etc/cinder/cinder.conf",
}

_SECTIONS = {
    "nova": (
        "dockstack_attaching",
        "dockstack_copying",
        "dockstack_privileged",
        "nova_sys_admin",
        "privsep_osbrick",
        "vif_plug_linux_bridge_privileged",
        "vif_plug_ovs_privileged",
    ),
    "neutron": (
        "privsep",
        "privsep_conntrack",
        "privsep_dhcp_release",
        "privsep_link",
        "privsep_namespace",
        "privsep_ovs_vsctl",
    ),
    "cinder": ("privsep_osbrick",),
}

_CONTEXTS = {
    "nova": (
        r"dockstack\.compute\.privileged\.[a-z_]+",
        r"nova\.privsep\.sys_admin_pctxt",
        r"os_brick\.privileged\.default",
        r"vif_plug_linux_bridge\.privsep\.vif_plug",
        r"vif_plug_ovs\.privsep\.vif_plug",
    ),
    "neutron": (r"neutron\.privileged\.[a-z_]+",),
    # By which cinder-backup attaches a volume, as nova-compute does: what it is told to attach may be a device.
    "cinder": (r"os_brick\.privileged\.default",),
}
"""The privsep contexts that each user may enter, as parts of sudo's regular expressions."""


ROOTWRAP_CONF = "/etc/neutron/rootwrap.conf"
ROOTWRAP_FILTERS = "/etc/neutron/rootwrap.d"


def root_helper(settings: Settings) -> str:
    """Return the agent's root helper, which starts metadata proxies in their namespaces; all else goes by privsep."""
    return f"sudo -n {settings.virtualenv}/bin/neutron-rootwrap {ROOTWRAP_CONF}"


def rootwrap_conf() -> Ini:
    """Return rootwrap.conf."""
    return {
        "DEFAULT": {
            "filters_path": ROOTWRAP_FILTERS,
            "exec_dirs": "/usr/local/sbin,/usr/local/bin,/usr/sbin,/usr/bin,/sbin,/bin",
            "use_syslog": "false",
        }
    }


def rootwrap_filters() -> Ini:
    """Return what rootwrap lets through: HAProxy with one of the agent's own files, inside a namespace."""
    files = r"/var/lib/neutron/ovn-metadata-proxy/[0-9a-f-]+\.conf"
    return {
        "Filters": {
            "in_namespace": "IpNetnsExecFilter, ip, root",
            "haproxy": f"RegExpFilter, haproxy, root, haproxy, -f, {files}",
            "haproxy_marked": f"EnvFilter, env, root, PROCESS_TAG=, haproxy, -f, {files}",
        }
    }


def helper_command(settings: Settings, user: str) -> str:
    """Return the command that starts a privsep daemon for one service."""
    return f"sudo -n {_helper(settings, user)}"


def helper_sections(settings: Settings, user: str) -> Ini:
    """Return the section of each privsep context that a service may enter."""
    command = helper_command(settings, user)
    return {section: {"helper_command": command} for section in _SECTIONS[user]}


def unprivileged_helper(settings: Settings, user: str) -> dict[str, str]:
    """Return the section of a privsep context whose daemon is the service's own user and may do nothing more.

    It parses what strangers wrote, so its memory has a limit.
    """
    return {"helper_command": f"/usr/bin/prlimit --data={1 << 30} {_helper(settings, user)}", "capabilities": ""}


def _helper(settings: Settings, user: str) -> str:
    return f"{settings.virtualenv}/bin/privsep-helper --config-file {_CONFIG_FILES[user]}"


def sudoers(settings: Settings, user: str, *, rootwrap: bool = True) -> str:
    """Return the sudo rule that allows exactly these helpers (regular expressions need sudo 1.9.10).

    Args:
        settings: of the host.
        user: whose rule.
        rootwrap: whether Neutron's agent starts proxies of metadata, too.
    """
    contexts = "|".join(_CONTEXTS[user])
    config_file = _CONFIG_FILES[user].replace(".", r"\.")
    arguments = f"^--config-file {config_file} --privsep_context ({contexts}) --privsep_sock_path /[a-zA-Z0-9_/.]+$"
    return (
        f"# Written by dockstack: {user} gains root only through its privsep helpers.\n"
        f"Defaults:{user} !requiretty, !use_pty\n"
        + (f"{user} ALL=(root) NOPASSWD: {_rootwrap(settings)}\n" if user == "neutron" and rootwrap else "")
        + f"{user} ALL=(root) NOPASSWD: {settings.virtualenv}/bin/privsep-helper {arguments}\n"
    )


def _rootwrap(settings: Settings) -> str:
    return f"{settings.virtualenv}/bin/neutron-rootwrap {ROOTWRAP_CONF} *"
