# SPDX-License-Identifier: Apache-2.0
"""Fill the cloud document from files that a cloud's services have: nova.conf of a compute node, Neutron's files.

What a file is, its sections tell, not its name: DevStack, Kolla-Ansible and OpenStack-Ansible name and split them each
in their own way. Only the options of the tables below are ever taken, so that nothing else that stands in such a file,
least of all a database's password, comes into the document.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.deploy.configuration import oslo_file
from dockstack.deploy.wanted.attributes import Kind, SourceValues
from dockstack.deploy.wanted.cloud_document import Problem
from dockstack.deploy.wanted.cloud_keys import CLOUD_KEYS, KOLLA, OPEN_VSWITCH, OVN, QUEUE_OPTIONS
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from dockstack.deploy.configuration.ini import Ini

KEYS = {key.name: key for key in CLOUD_KEYS}
SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
KOLLA_LOGS = "/var/log/kolla/"  # in each of its containers
DEFAULT_DOMAIN = "default"  # the id of the domain that is named Default
_YES, _NO = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}
EXTENSIONS = ("qos",)
"""What Neutron's Open vSwitch agent does besides, that needs nothing more on a node."""

# Sections with the account of each service; of several, the last that is there wins.
ACCOUNT_SECTIONS = {
    "nova": ("keystone_authtoken", "service_user"),
    "placement": ("placement",),
    "neutron": ("neutron",),
    "cinder": ("cinder",),
}
ACCOUNT_OPTIONS = {
    "username": "username",
    "password": "password",
    "project_name": "project",
    "project_domain_name": "project_domain",
    "user_domain_name": "user_domain",
}
# (section, option, key): later rows win over earlier ones.
NOVA = (
    ("DEFAULT", "transport_url", "messaging.transport_url"),
    *(("oslo_messaging_rabbit", name, f"messaging.{name}") for name, _, _ in QUEUE_OPTIONS),
    ("keystone_authtoken", "auth_url", "identity.auth_url"),
    ("placement", "auth_url", "identity.auth_url"),
    ("cinder", "os_region_name", "identity.region"),
    ("neutron", "region_name", "identity.region"),
    ("placement", "region_name", "identity.region"),
    ("placement", "valid_interfaces", "identity.interface"),
    ("neutron", "metadata_proxy_shared_secret", "metadata.secret"),
    ("docker", "cloud_registry", "registry.address"),
    *(
        (section, option, f"accounts.{account}.{part}")
        for account, sections in ACCOUNT_SECTIONS.items()
        for section in sections
        for option, part in ACCOUNT_OPTIONS.items()
    ),
)
NEUTRON = (
    ("DEFAULT", "transport_url", "messaging.neutron_transport_url"),
    ("DEFAULT", "metadata_proxy_shared_secret", "metadata.secret"),
    ("DEFAULT", "nova_metadata_ip", "metadata.host"),  # the option's former name
    ("DEFAULT", "nova_metadata_host", "metadata.host"),
    ("DEFAULT", "nova_metadata_port", "metadata.port"),
    ("DEFAULT", "nova_metadata_protocol", "metadata.protocol"),
    ("ml2", "mechanism_drivers", "network.mechanism"),
    ("ovn", "ovn_sb_connection", "ovn.southbound"),
    ("ovn", "ovn_nb_connection", "ovn.northbound"),
    ("DEFAULT", "force_metadata", "openvswitch.metadata"),
    ("DEFAULT", "router_distributed", "openvswitch.distributed_routing"),
    ("agent", "enable_distributed_routing", "openvswitch.distributed_routing"),
    ("ovs", "bridge_mappings", "openvswitch.bridge_mappings"),
    ("agent", "tunnel_types", "openvswitch.tunnel_types"),
    ("agent", "vxlan_udp_port", "openvswitch.vxlan_port"),
    ("agent", "extensions", "openvswitch.extensions"),
    ("agent", "l2_population", "openvswitch.l2_population"),
    ("securitygroup", "firewall_driver", "openvswitch.firewall_driver"),
)
CONSOLES = (
    ("serial_console", "base_url", "consoles.serial_url", "false"),
    ("vnc", "novncproxy_base_url", "consoles.novnc_url", "true"),
)
AUTHORITIES = (
    *((section, "cafile") for section in ("keystone_authtoken", "placement", "neutron", "cinder", "service_user")),
    ("oslo_messaging_rabbit", "ssl_ca_file"),
)


@dataclass(frozen=True)
class Found:
    """What files told.

    Attributes:
        sources: their values; each names its file, section and option.
        problems: keys that the files speak of, but whose values are elsewhere.
        warnings: what a person should know.
    """

    sources: tuple[SourceValues, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def and_then(self, other: Found) -> Found:
        """Return both; where they differ, the other wins."""
        return Found(self.sources + other.sources, self.problems + other.problems, self.warnings + other.warnings)


def read(paths: Iterable[str | Path]) -> Found:
    """Read files; as with oslo.config, what is named later wins.

    Raises:
        DockstackError: one cannot be read, is no such file, or tells nothing.
    """
    found = Found()
    for path in paths:
        told = told_by(str(path), _text(Path(path)))
        if not told.sources:
            raise DockstackError(
                f"{path} tells nothing that a compute node needs.", "Give nova.conf of a compute node."
            )
        found = found.and_then(told)
    return found


def told_by(name: str, text: str) -> Found:
    """Return what one file tells; pure.

    Args:
        name: what the file is called in provenance and errors.
        text: its content.

    Raises:
        DockstackError: it is no configuration file.
    """
    ini = oslo_file.parse(text, name)
    told = tuple(_of_nova(ini, name) if is_nova(ini) else _rows(ini, NEUTRON, name))
    whose = tuple(_deployer(ini, name)) if told else ()
    return Found(told + whose, tuple(_elsewhere(ini, name)), tuple(_warnings(ini, name)))


def authority_paths(text: str) -> tuple[str, ...]:
    """Return the files with certificates of authorities that a file names, but for the system's own; pure."""
    ini = oslo_file.parse(text, "the file")
    named = (ini.get(section, {}).get(option, "") for section, option in AUTHORITIES)
    return tuple(dict.fromkeys(path for path in named if path and path not in SYSTEM_BUNDLES))


def is_nova(ini: Ini) -> bool:
    """Tell whether a file is Nova's rather than Neutron's."""
    general = ini.get("DEFAULT", {})
    neutrons = "core_plugin" in general or "auth_url" in ini.get("nova", {})
    return "compute_driver" in general or ("auth_url" in ini.get("placement", {}) and not neutrons)


def _deployer(ini: Ini, name: str) -> Iterator[SourceValues]:
    """Yield whose file it is, where its log directory tells."""
    if ini.get("DEFAULT", {}).get("log_dir", "").startswith(KOLLA_LOGS):
        yield SourceValues(f"{name} [DEFAULT] log_dir", {"deployer": KOLLA})


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise DockstackError(f"{path} cannot be read: {error.strerror}.", "Check the path, and run as root.") from error


def _of_nova(ini: Ini, name: str) -> Iterator[SourceValues]:
    yield from _rows(ini, NOVA, name)
    for section, option, key, default in CONSOLES:
        options = ini.get(section, {})
        if options.get("enabled", default).lower() in _YES and options.get(option):
            yield _one(name, section, option, key, options[option])


def _rows(ini: Ini, rows: Iterable[tuple[str, str, str]], name: str) -> Iterator[SourceValues]:
    for section, option, key in rows:
        value = ini.get(section, {}).get(option)
        if value:
            yield _one(name, section, option, key, value)


def _one(name: str, section: str, option: str, key: str, text: str) -> SourceValues:
    source = f"{name} [{section}] {option}"
    return SourceValues(source, {key: _value(key, text, source)})


def _value(key: str, text: str, source: str) -> Any:
    """Return an option's text as the document's key takes it."""
    if key in SPELLED_OTHERWISE:
        return SPELLED_OTHERWISE[key](text)
    kind = KEYS[key].kind
    if kind is Kind.BOOLEAN and text.lower() in _YES | _NO:
        return text.lower() in _YES
    if kind in {Kind.INTEGER, Kind.PORT} and text.isdecimal():
        return int(text)
    if "$" in text and not KEYS[key].secret:
        raise DockstackError(
            f"{source} refers to an option that the file does not set: {text}.",
            "Write the value itself into a copy of the file, or set the key with --set.",
        )
    return text


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


SPELLED_OTHERWISE: Mapping[str, Callable[[str], Any]] = {
    "network.mechanism": lambda text: next((one for one in (OVN, OPEN_VSWITCH) if one in _words(text)), text),
    "identity.interface": lambda text: _words(text)[0].removesuffix("URL"),
    "openvswitch.extensions": lambda text: [one for one in EXTENSIONS if one in _words(text)],
    "openvswitch.metadata": lambda text: "dhcp" if text.lower() in _YES else "router",
}
"""What the document has in other words than the services."""


def _elsewhere(ini: Ini, name: str) -> Iterator[Problem]:
    for section, option in AUTHORITIES:
        path = ini.get(section, {}).get(option, "")
        if path and path not in SYSTEM_BUNDLES:
            yield Problem("tls.authority", f"{name} [{section}] {option} names {path}. Give that file's content.")
    for account, sections in ACCOUNT_SECTIONS.items():
        for section in sections:
            options = ini.get(section, {})
            kind = options.get("auth_type", "password")
            if kind not in {"password", "v3password"}:
                why = f"{name} [{section}] logs in by {kind}, not by a password."
                yield Problem(f"accounts.{account}.password", why)
            for domain in ("user_domain", "project_domain"):
                identifier = options.get(f"{domain}_id", DEFAULT_DOMAIN)
                if identifier != DEFAULT_DOMAIN and f"{domain}_name" not in options:
                    yield Problem(f"accounts.{account}.{domain}", f"{name} [{section}] has its id only. Give its name.")


def _warnings(ini: Ini, name: str) -> Iterator[str]:
    if is_nova(ini) and ini.get("api_database", {}).get("connection"):
        yield (
            f"{name} is a controller's: where nodes have a cell with a message bus of its own, messaging.transport_url "
            "must be that one. A compute node's own file has it."
        )
