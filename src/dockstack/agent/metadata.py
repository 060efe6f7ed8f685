# SPDX-License-Identifier: Apache-2.0
"""The metadata extension of Neutron's OVN agent, set up once per network ([agent] extensions = dockstack_metadata).

For each new port, Neutron's own extension sets up the network's namespace, link, addresses, firewall rules and proxy
again, although they exist since the first port, and it removes them with the last one. That work takes several times as
long as the start of a container, and a restart of the agent repeats it for every server of the host.

Source: neutron/agent/ovn/metadata/agent.py:MetadataAgent and neutron/agent/ovn/extensions/metadata.py.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from neutron.agent.ovn.extensions.metadata import MetadataExtension
from neutron.agent.ovn.metadata.agent import _SYNC_STATE_LOCK

from dockstack.agent.served import Served
from dockstack.names import NAMESPACES

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

LOG = logging.getLogger(__name__)
LINGER = 30.0  # seconds


class KeptMetadata(MetadataExtension):
    """Serves metadata as Neutron's extension does, and keeps what is set up."""

    def __init__(self) -> None:
        super().__init__()
        self._served = Served(_SYNC_STATE_LOCK, self._take_down, LINGER)
        self._under_way: tuple[str, Hashable] | None = None

    @property
    def sb_idl_events(self) -> list[Any]:
        """Neutron's events, which look for an extension named "metadata", led to this one."""
        return [
            type(event.__name__, (event,), {"agent": property(lambda _event: self)}) for event in super().sb_idl_events
        ]

    def sync(self, provision: bool = True) -> None:
        """Look at every network anew; the switch or OVN may have been away."""
        with _SYNC_STATE_LOCK:
            self._served.forget()
            super().sync(provision)

    def provision_datapath(self, port_binding: Any) -> Any:
        """Have a port's network served, unless it is."""
        self._under_way = None
        done = super().provision_datapath(port_binding)
        if self._under_way is not None:
            self._served.note(*self._under_way)
        return done

    def _get_provision_params(self, datapath: Any) -> Any:
        wanted = super()._get_provision_params(datapath)
        if not wanted:
            return wanted
        network, addresses, with_ipv6, port = wanted
        subnets = self._active_subnets_cidrs(addresses, port.ip_addresses)
        how = (port.mac, port.logical_port, port.mtu, frozenset(port.ip_addresses), frozenset(subnets), with_ipv6)
        if self._served.has(network, how) and self._stands(network):
            return None
        self._under_way = (network, how)
        return wanted

    def teardown_datapath(self, net_name: str) -> None:
        """Leave a network in a while."""
        if self._namespace(net_name).exists():
            self._served.part(net_name)

    def _take_down(self, network: str) -> None:
        try:
            super().teardown_datapath(network)
        except Exception:
            LOG.exception("What served metadata in network %s could not be taken down", network)

    def _stands(self, network: str) -> bool:
        link = self._get_veth_name(network)[0]
        return self._namespace(network).exists() and link in self.ovs_idl.list_ports(self.ovn_bridge).execute()

    def _namespace(self, network: str) -> Path:
        return NAMESPACES / str(self._get_namespace_name(network))
