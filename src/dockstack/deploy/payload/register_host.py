# SPDX-License-Identifier: Apache-2.0
"""Register this compute node in its cloud, disabled, before nova-compute does: ``register_host.py REASON``.

nova-compute registers itself enabled, unless the cloud's controllers say otherwise, and could get a server before
anybody has looked at it. Whoever is there already is left as it is. It runs in the services' environment, as the user
of nova-compute, with whose own identity it writes what nova-compute would write.
"""

from __future__ import annotations

import sys

import nova.db.main.api
import oslo_messaging as messaging
from nova import config, context, exception, objects
from nova.compute import rpcapi
from nova.conductor import rpcapi as conductor
from nova.objects import base
from nova.virt import node

BINARY = "nova-compute"
CONF = "/etc/nova/nova.conf"


def register(host: str, reason: str) -> bool:
    """Have a record of the host's nova-compute; return whether there was none.

    Without a local identity, nova-compute would refuse to start beside a record.

    Raises:
        SystemExit: Nova refuses it, with what to do about it.
    """
    admin = context.get_admin_context()
    if objects.Service.get_by_host_and_binary(admin, host, BINARY) is not None:
        return False
    node.get_local_node_uuid()
    record = objects.Service(admin, host=host, binary=BINARY, topic=rpcapi.RPC_TOPIC, report_count=0)
    record.disabled, record.disabled_reason = True, reason
    try:
        record.create()
    except (exception.ServiceTopicExists, exception.ServiceBinaryExists):  # nova-compute was faster
        return False
    except exception.ServiceTooOld as error:
        raise SystemExit(
            f"Nova lets in no host that is older than all that it has: {error} Give this one the cloud's own release "
            "(`dockstack cloud import` finds it): only one that was in before the others were upgraded may be older."
        ) from error
    return True


def main(reason: str, path: str = CONF) -> None:
    """Register this host through a conductor, as nova-compute does: there is no database here."""
    config.parse_args([BINARY, "--config-file", path])
    objects.register_all()
    nova.db.main.api.DISABLE_DB_ACCESS = True
    base.NovaObject.indirection_api = conductor.ConductorAPI()
    try:
        register(config.CONF.host, reason)
    except messaging.MessagingTimeout as error:
        raise SystemExit(f"No nova-conductor answers on the message bus of this host's cell: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1])
