# SPDX-License-Identifier: Apache-2.0
"""Ask Placement about the host that a compute node is, with the services' Python.

``await_provider.py HOST`` tells whether it may become that host, before anything of it runs. ``await_provider.py HOST
SECONDS`` waits until it has: nova-compute reports there once it has spoken to its conductors, so that one question
tells of the message bus, of Keystone and of Placement. It is asked with nova-compute's own account, as nova.conf has
it: there is no other here.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from keystoneauth1 import exceptions, loading
from oslo_config import cfg

CONF = "/etc/nova/nova.conf"
SECTION = "placement"
IDENTITY = "/var/lib/nova/compute_id"  # nova-compute's own, which its provider has, too
ANSWER = 30  # seconds for one; who takes a connection and says nothing would be waited for without end
POLL = 1.0


def placement(path: str) -> loading.adapter.Adapter:
    """Return Placement as nova.conf tells of it."""
    conf = cfg.ConfigOpts()
    loading.register_auth_conf_options(conf, SECTION)
    loading.register_session_conf_options(conf, SECTION)
    loading.register_adapter_conf_options(conf, SECTION)
    conf(["--config-file", path], project="nova")
    auth = loading.load_auth_from_conf_options(conf, SECTION)
    session = loading.load_session_from_conf_options(conf, SECTION, auth=auth, timeout=ANSWER)
    return loading.load_adapter_from_conf_options(conf, SECTION, session=session, auth=auth, service_type="placement")


def refusal(host: str, path: str = CONF, identity: str = IDENTITY) -> str:
    """Return why this machine cannot be a host of the cloud, "" if it can: another one may be it."""
    try:
        own = Path(identity).read_text().strip()
    except FileNotFoundError:
        own = ""
    try:
        others = [each for each in _providers(placement(path), host) if each["uuid"] != own]
    except exceptions.ClientException as error:
        return _said(error)
    return f"The cloud has a host {host} already, and this machine is not it." if others else ""


def wait(host: str, seconds: float, path: str = CONF) -> str:
    """Wait; return why it is not there, "" if it is."""
    deadline = time.monotonic() + seconds
    api = placement(path)
    while True:
        try:
            problem = "" if _providers(api, host) else f"nova-compute has not reported {host} to Placement"
        except exceptions.Unauthorized as error:
            return _said(error)
        except exceptions.ClientException as error:
            problem = _said(error)
        if not problem or time.monotonic() > deadline:
            return problem
        time.sleep(POLL)


def _providers(api: loading.adapter.Adapter, host: str) -> list[dict[str, str]]:
    return list(api.get("/resource_providers", params={"name": host}).json()["resource_providers"])


def _said(error: exceptions.ClientException) -> str:
    if isinstance(error, exceptions.Unauthorized):
        return f"Keystone or Placement refuses the account of [placement]: {error}"
    return str(error)


def main(host: str, seconds: str = "", path: str = CONF) -> int:
    """Ask, and return the exit status."""
    problem = wait(host, float(seconds), path) if seconds else refusal(host, path)
    print(problem, file=sys.stderr)
    return int(problem != "")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
