# SPDX-License-Identifier: Apache-2.0
"""What Nova asks Placement on behalf of a host."""

from __future__ import annotations

from typing import Any

import nova.conf

CONF = nova.conf.CONF


def spare_allocations(virtapi: Any) -> None:
    """Keep Nova from reading the allocation of every server of the host, one by one, whenever one comes or goes.

    Its resource tracker reads them before it knows whether anybody wants them
    (nova/compute/resource_tracker.py:_update_to_placement), and who builds the next server waits meanwhile. Wanted
    they are by a driver that moves resources between providers, which this one never does, and for PCI devices that
    are tracked in Placement, where all stays as it is.

    Args:
        virtapi: as Nova gives it to its drivers; one without a compute manager behind it is left alone.
    """
    tracker = getattr(getattr(virtapi, "_compute", None), "rt", None)
    if tracker is not None and not CONF.pci.report_in_placement:
        tracker.reportclient.get_allocations_for_provider_tree = _read_none


def _read_none(_context: Any, _nodename: str) -> dict[str, Any]:
    return {}
