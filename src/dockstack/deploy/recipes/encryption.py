# SPDX-License-Identifier: Apache-2.0
"""TLS for what crosses machines: the cloud's own authority, its certificates, and the proxy that ends TLS."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import certificates, programs
from dockstack.deploy.configuration.certificates import Holder
from dockstack.deploy.configuration.haproxy import tls_proxy_cfg
from dockstack.deploy.node.output import StepFailedError
from dockstack.deploy.recipes.facts import LOOPBACK, settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

CERTIFICATES, PROXY = "certificates", "encryption"


def wanted(node: Node) -> bool:
    """Tell whether others come in here, over TLS."""
    return node.has(Role.CONTROLLER) and node.attributes.flag("tls.enable")


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages of TLS, none without; the proxy stands before anything is spoken to through it."""
    if not wanted(node):
        return ()
    before = (CERTIFICATES, "packages", "supervisor")
    return (
        Stage(CERTIFICATES, "Making certificates", certify, ("foundation",), phase="prepare"),
        Stage(PROXY, "Starting the proxy that ends TLS", start, before, phase="infrastructure"),
    )


def certify(machine: Machine) -> None:
    """Have an authority and its certificates, made anew before they end; or the operator's, but for OVN."""
    settings, now = settings_of(machine), datetime.now(UTC)
    machine.directory(paths.TLS)
    own = certificates.authority(_kept(machine, paths.OWN_AUTHORITY), f"dockstack on {settings.hostname}", now)
    machine.file(paths.OWN_AUTHORITY, own, mode=0o600)
    authority = certificates.certificate_of(own)
    machine.file(paths.OVN_AUTHORITY, authority)
    holder = Holder(settings.hostname, addresses(settings))
    signed = certificates.issued(_kept(machine, paths.OVN_CERTIFICATE), own, holder, now)
    machine.file(paths.OVN_CERTIFICATE, signed, mode=0o600)
    if machine.attributes.text("tls.certificate"):
        given, trusted = _given(machine, "tls.certificate", "tls.private_key"), _given(machine, "tls.authority")
    else:
        given, trusted = certificates.issued(_kept(machine, paths.API_CERTIFICATE), own, holder, now), authority
    machine.file(paths.API_CERTIFICATE, given, mode=0o600)
    machine.file(paths.AUTHORITY, trusted)


def addresses(settings: Settings) -> tuple[str, ...]:
    """Return all by which others, or this machine itself, may call the controller."""
    return (settings.controller_address, settings.listen_address, settings.hostname, "localhost", LOOPBACK)


def _given(machine: Machine, *attributes: str) -> str:
    """Return the operator's files, as one text."""
    texts = []
    for name in attributes:
        path = machine.attributes.text(name)
        text = _kept(machine, path)
        if not text:
            raise StepFailedError(f"{path} ({name}) is not there, or empty.", "Set the attribute, or put it there.")
        texts.append(text)
    return "".join(texts)


def _kept(machine: Machine, path: str) -> str | None:
    """Return a file as it is; what is read of a machine has lost the end of its last line."""
    text = machine.read(path)
    return f"{text.rstrip()}\n" if text else None


def start(machine: Machine) -> None:
    """Have the proxy running."""
    settings = settings_of(machine)
    machine.file(programs.TLS_PROXY_CFG, tls_proxy_cfg(settings))
    ensure_running(machine, programs.tls_proxy(settings))
