# SPDX-License-Identifier: Apache-2.0
"""Wait until Placement knows a host, on a compute node, with the services' Python: ``await_provider.py HOST SECONDS``.

nova-compute reports there once it has spoken to its conductors, so that one question tells of the message bus, of
Keystone and of Placement. It is asked with nova-compute's own account, as nova.conf has it: there is no other here.
"""

from __future__ import annotations

import sys
import time

from keystoneauth1 import exceptions, loading
from oslo_config import cfg

CONF = "/etc/nova/nova.conf"
SECTION = "placement"
POLL = 1.0


def placement(path: str) -> loading.adapter.Adapter:
    """Return Placement as nova.conf tells of it."""
    conf = cfg.ConfigOpts()
    loading.register_auth_conf_options(conf, SECTION)
    loading.register_session_conf_options(conf, SECTION)
    loading.register_adapter_conf_options(conf, SECTION)
    conf(["--config-file", path], project="nova")
    auth = loading.load_auth_from_conf_options(conf, SECTION)
    session = loading.load_session_from_conf_options(conf, SECTION, auth=auth)
    return loading.load_adapter_from_conf_options(conf, SECTION, session=session, auth=auth, service_type="placement")


def wait(host: str, seconds: float, path: str = CONF) -> str:
    """Wait; return why it is not there, "" if it is."""
    deadline = time.monotonic() + seconds
    api = placement(path)
    while True:
        try:
            found = api.get("/resource_providers", params={"name": host}).json()["resource_providers"]
            problem = "" if found else f"nova-compute has not reported {host} to Placement"
        except exceptions.Unauthorized as error:
            return f"Keystone or Placement refuses the account of [placement]: {error}"
        except exceptions.ClientException as error:
            problem = str(error)
        if not problem or time.monotonic() > deadline:
            return problem
        time.sleep(POLL)


if __name__ == "__main__":
    sys.exit(wait(sys.argv[1], float(sys.argv[2])))
