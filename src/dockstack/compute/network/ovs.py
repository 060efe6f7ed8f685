# SPDX-License-Identifier: Apache-2.0
"""The switch's end of a port, through os-vif's Open vSwitch plugin."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import os_vif
import os_vif.exception
from os_vif import objects
from oslo_config import cfg
from ovsdbapp.backend.ovs_idl.event import RowEventHandler, WaitEvent
from vif_plug_ovs.ovsdb import ovsdb_lib

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from dockstack.compute.model import Port, Server

_SUPPORTED = ("ovs",)
_INSTALL_PATIENCE = 5.0  # seconds; it takes some 10 ms, and whoever is slower is left to Neutron's event


_INTERFACES = "Interface"


class _Installed(WaitEvent):  # type: ignore[misc] # ovsdbapp has no types
    """Ovn-controller has written every flow of some ports (``ovn-installed``, ovn-controller(8))."""

    def __init__(self, port_ids: Collection[str], timeout: float) -> None:
        self.wanted = frozenset(port_ids)
        self.found: set[str] = set()
        super().__init__((self.ROW_CREATE, self.ROW_UPDATE), _INTERFACES, None, timeout=timeout)

    @property
    def key(self) -> tuple[object, ...]:
        """Tell one wait from another: two builds watch at the same time."""
        return (*super().key, id(self))

    def match_fn(self, _event: str, row: Any, _old: Any) -> bool:
        """Count a port in; called by the connection's thread for each row that changes."""
        return self.add(row.external_ids)

    def add(self, external_ids: Mapping[str, str]) -> bool:
        """Count an interface in if it is one of the ports and installed; say whether all are."""
        if external_ids.get("ovn-installed") == "true" and external_ids.get("iface-id") in self.wanted:
            self.found.add(external_ids["iface-id"])
        return self.found == self.wanted


class PlugError(DockstackError):
    """The virtual switch refused a port, or is not there."""


_lock = threading.Lock()
_connected: dict[str, Any] = {}


def connect(address: str | None = None) -> Any:
    """Connect to this host's Open vSwitch database, at the first call; the library keeps it up across restarts.

    Args:
        address: another than [os_vif_ovs] ovsdb_connection; plugging uses it too.

    Returns:
        The database, safe for many threads.
    """
    with _lock:
        if not _connected:
            os_vif.initialize()
            if address is not None:
                cfg.CONF.set_override("ovsdb_connection", address, group="os_vif_ovs")
                os_vif.initialize(reset=True)  # the plugin reads its options when it is loaded
            _check_listening(cfg.CONF.os_vif_ovs.ovsdb_connection)
            switch = ovsdb_lib.BaseOVS(cfg.CONF.os_vif_ovs).ovsdb
            _connected["events"] = RowEventHandler()
            switch.idl.notify = _connected["events"].notify  # os-vif's replica tells nobody of changes
            _connected["switch"] = switch
        return _connected["switch"]


def plug(server: Server, port: Port) -> None:
    """Put the port's device on its bridge as the interface that Neutron waits for. Again is fine.

    The device must exist (see wire).

    Raises:
        PlugError: the switch is not there, refused, or the port is of a kind that a container cannot have.
    """
    _check(port)
    _refuse_bridged(port)
    with _explained(f"plugging port {port.id} of server {server.uuid}"):
        os_vif.plug(_vif(port, _datapath(port.bridge)), _instance(server))


def wait_installed(port_ids: Collection[str]) -> set[str]:
    """Wait until this host's switch has every flow of the ports; return those that have, after some seconds at most.

    Neutron's own word for it, ``network-vif-plugged``, follows from the same fact, but comes by way of two databases
    and a queue that Neutron empties once a second. Where OVN does not run this switch, nobody says it here: none are
    returned, at once.

    Args:
        port_ids: the Neutron ports.

    Raises:
        PlugError: the switch is not there.
    """
    if not port_ids:
        return set()
    with _explained("waiting for the flows of ports"):
        database = connect()
        (switch,) = database.db_list("Open_vSwitch", columns=["external_ids"]).execute(check_error=True)
        if not any(key.startswith("ovn-remote") for key in switch["external_ids"]):
            return set()
        installed = _Installed(port_ids, _INSTALL_PATIENCE)
        events = _connected["events"]
        events.watch_event(installed)  # before the look at what is there, so that nothing falls between the two
        try:
            rows = database.db_list(_INTERFACES, columns=["external_ids"]).execute(check_error=True)
            if not any(installed.add(row["external_ids"]) for row in rows):
                installed.wait()
        finally:
            events.unwatch_event(installed)
        return set(installed.found)


def unplug(server: Server, port: Port) -> None:
    """Take the port's device off its bridge and remove the device; absent is success.

    Raises:
        PlugError: the switch is not there.
    """
    _check(port)
    with _explained(f"unplugging port {port.id} of server {server.uuid}"):
        os_vif.unplug(_vif(port, _datapath(port.bridge)), _instance(server))


def unplug_device(device: str) -> None:
    """Take a device off whatever bridge it is on, for the sweep of strays; absent is success."""
    with _explained(f"unplugging device {device}"):
        connect().del_port(device, if_exists=True).execute(check_error=True)


def list_plugged() -> dict[str, str]:
    """Return the devices of servers on this host's switch, each with its server's uuid, for the sweep of strays."""
    with _explained("listing the switch's ports"):
        rows = connect().db_list("Interface", columns=["name", "external_ids"]).execute(check_error=True)
    return {
        row["name"]: row["external_ids"]["vm-uuid"]
        for row in rows
        if row["name"].startswith("tap") and "vm-uuid" in row["external_ids"]
    }


def _check_listening(address: str) -> None:
    """Raise OSError if nobody listens: for that, ovsdbapp would raise a bare Exception after many seconds."""
    kind, _, rest = address.partition(":")
    if kind == "unix":
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(rest)
    else:
        host, _, port = rest.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _check(port: Port) -> None:
    if port.vif_type not in _SUPPORTED:
        raise PlugError(
            f"Port {port.id} was bound as {port.vif_type!r}, which a container cannot have.",
            "Bind it on an Open vSwitch or OVN network with vnic_type normal; 'binding_failed' means that no Neutron "
            "mechanism driver took this host: check that ovn-controller runs and is registered as a chassis, or that "
            "Neutron's Open vSwitch agent runs, and is alive for Neutron under this host's name. 'unbound' "
            "means that no host has it: reboot the server with --hard, which binds it again.",
        )


def _refuse_bridged(port: Port) -> None:
    """Refuse a port whose security groups would be bypassed.

    Raises:
        PlugError: Neutron's agent on this host filters on bridges of its own.
    """
    if port.bridged:
        raise PlugError(
            f"Neutron's Open vSwitch agent of this host filters port {port.id} on a Linux bridge (iptables_hybrid), "
            "which a container's interface does not have: its security groups would be bypassed.",
            "Set [securitygroup] firewall_driver = openvswitch for the agent on this host and restart it; then reboot "
            "the server with --hard.",
        )


def _datapath(bridge: str) -> str:
    """Return the bridge's datapath type: os-vif writes what it is told, and a wrong one would stop all traffic.

    Raises:
        PlugError: there is no such bridge.
    """
    rows = connect().db_find("Bridge", ("name", "=", bridge), columns=["datapath_type"]).execute(check_error=True)
    if not rows:
        raise PlugError(
            f"There is no bridge {bridge} on this host.",
            "Start ovn-controller, or Neutron's Open vSwitch agent (it creates the bridge), then try again.",
        )
    return rows[0]["datapath_type"] or "system"


def _vif(port: Port, datapath: str) -> objects.vif.VIFOpenVSwitch:
    profile = objects.vif.VIFPortProfileOpenVSwitch(interface_id=port.id, create_port=True, datapath_type=datapath)
    network = objects.network.Network(
        id=port.network_id, bridge=port.bridge, mtu=port.mtu, subnets=objects.subnet.SubnetList(objects=[])
    )
    return objects.vif.VIFOpenVSwitch(
        id=port.id,
        address=port.mac,
        network=network,
        plugin="ovs",
        port_profile=profile,
        vif_name=port.device,
        bridge_name=port.bridge,
        has_traffic_filtering=True,
        preserve_on_delete=False,
    )


def _instance(server: Server) -> objects.instance_info.InstanceInfo:
    return objects.instance_info.InstanceInfo(uuid=server.uuid, name=server.container_name)


@contextmanager
def _explained(action: str) -> Iterator[None]:
    """Turn os-vif's and ovsdbapp's errors into ours; both wrap their causes in these."""
    try:
        yield
    except (os_vif.exception.ExceptionBase, RuntimeError, TimeoutError, OSError) as error:
        cause = error.__context__ or error  # os-vif's own text is a dump of its objects
        raise PlugError(
            f"The virtual switch failed at {action}: {cause}.",
            "Check that Open vSwitch runs and listens where [os_vif_ovs] ovsdb_connection says "
            "(`ovs-vsctl set-manager ptcp:6640:127.0.0.1`), and that the bridge exists.",
        ) from error
