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
from typing import TYPE_CHECKING

from keystoneauth1 import exceptions, loading
from oslo_config import cfg

if TYPE_CHECKING:
    from collections.abc import Callable

Providers = list[dict[str, str]]
CONF = "/etc/nova/nova.conf"
SECTION = "placement"
IDENTITY = "/var/lib/nova/compute_id"  # nova-compute's own, which its provider has, too
PATIENCE = 120.0  # seconds, for a cloud that has much to do
ANSWER = 60  # seconds for one; who takes a connection and says nothing would be waited for without end
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

    def judge(found: Providers) -> tuple[str, bool]:
        taken = any(each["uuid"] != own for each in found)
        return f"The cloud has a host {host} already, and this machine is not it." if taken else "", True

    return _ask(host, PATIENCE, path, judge)


def wait(host: str, seconds: float, path: str = CONF) -> str:
    """Wait; return why it is not there, "" if it is."""

    def judge(found: Providers) -> tuple[str, bool]:
        return "" if found else f"nova-compute has not reported {host} to Placement", bool(found)

    return _ask(host, seconds, path, judge)


def _ask(host: str, seconds: float, path: str, judge: Callable[[Providers], tuple[str, bool]]) -> str:
    """Ask until an answer is final, as ``judge`` says beside its problem, or the time is over; return the problem."""
    deadline = time.monotonic() + seconds
    api = placement(path)
    while True:
        try:
            problem, final = judge(_providers(api, host))
        except exceptions.Unauthorized as error:
            return f"Keystone or Placement refuses the account of [placement]: {error}"
        except exceptions.ClientException as error:
            problem, final = str(error), False
        if final or time.monotonic() > deadline:
            return problem
        time.sleep(POLL)


def _providers(api: loading.adapter.Adapter, host: str) -> Providers:
    return list(api.get("/resource_providers", params={"name": host}).json()["resource_providers"])


def main(host: str, seconds: str = "", path: str = CONF) -> int:
    """Ask, and return the exit status."""
    problem = wait(host, float(seconds), path) if seconds else refusal(host, path)
    print(problem, file=sys.stderr)
    return int(problem != "")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
