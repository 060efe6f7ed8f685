# SPDX-License-Identifier: Apache-2.0
"""The first requests of an API that has just started, several at a time: its policy refuses none that it allows later.

Each case is tried with the service's own module, too. Once upstream has mended that, ours may go.
"""

from __future__ import annotations

import subprocess

import pytest

from dockstack.deploy.configuration.apis import MODULES
from dockstack.deploy.configuration.scripts import DIRECTORY
from dockstack.deploy.paths import OPENSTACK_VENV

pytestmark = pytest.mark.cloud

CROWD = """
import os, sys, threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

together, refused = threading.Barrier(4, timeout=120), []

{service}

if os.environ["OURS"]:
    import_module(os.environ["OURS"])
sys.setswitchinterval(1e-6)

def ask():
    together.wait()
    try:
        if not allowed():
            refused.append("no")
    except Exception as error:
        refused.append(str(error))

for _ in range(30):
    if refused:
        break
    if not os.environ["OURS"]:
        forget()
    with ThreadPoolExecutor(4) as pool:
        [asked.result() for asked in [pool.submit(ask) for _ in range(4)]]
print(len(refused))
"""
# The APIs themselves would start with these, and take part in the cloud.
NO_API = """
import types
sys.modules["{name}.wsgi.api"] = types.ModuleType("{name}.wsgi.api")
sys.modules["{name}.wsgi.api"].application = None
"""
KEYSTONE = """
import flask
import keystone.wsgi.api
from keystone.common.rbac_enforcer.enforcer import RBACEnforcer

# One for all: Flask compiles its routes, which CPython 3.11 cannot do in two threads at this switch interval.
application = flask.Flask("test")
credentials = {"roles": ["admin"], "user_id": "u", "project_id": "p", "system_scope": None}

def allowed():
    with application.test_request_context():
        RBACEnforcer()._enforce(credentials, "identity:validate_token", {})
        return True

def forget():
    RBACEnforcer()._reset()
"""
NEUTRON = """
from neutron import policy
from neutron_lib import context
from neutron_lib.policy import _engine
from oslo_config import cfg
cfg.CONF([], project="neutron", default_config_files=[])

def allowed():
    who = context.Context(user_id="u", project_id="p", roles=["admin", "member", "reader"])
    policy.init()
    return who.is_admin and policy.check(who, "delete_network", {"id": "x", "project_id": "p", "tenant_id": "p"})

def forget():
    policy.reset()
    _engine._ROLE_ENFORCER = None
"""
CINDER = """
from cinder import context, policy
who = context.RequestContext(user_id="u", project_id="p", roles=["admin", "member", "reader"], is_admin=True)

def allowed():
    policy.enforce(who, "volume:get", {"project_id": "p", "user_id": "u"})
    return True

forget = policy.reset
"""
BARBICAN = """
from barbican.common import policy
from oslo_config import cfg
cfg.CONF([], project="barbican", default_config_files=[])

def allowed():
    who = {"roles": ["member"], "project_id": "p", "user_id": "u", "enforce_new_defaults": True}
    return policy.get_enforcer().enforce("secrets:post", {"enforce_new_defaults": True}, who)

forget = policy.reset
"""
CASES = {
    "keystone": KEYSTONE,
    "neutron-api": NO_API.format(name="neutron") + NEUTRON,
    "cinder-api": NO_API.format(name="cinder") + CINDER,
    "barbican-api": NO_API.format(name="barbican") + BARBICAN,
}


def refusals(api, ours):
    """How often four threads that ask at once for what they may do are refused, in up to 30 rounds."""
    done = subprocess.run(
        [f"{OPENSTACK_VENV}/bin/python", "-c", CROWD.replace("{service}", CASES[api])],
        env={"PYTHONPATH": DIRECTORY, "PYTHONWARNINGS": "ignore", "OURS": ours},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def test_each_module_of_ours_has_its_case():
    assert CASES.keys() == MODULES.keys()


@pytest.mark.parametrize("api", ["keystone", "neutron-api"])
def test_it_refuses_nobody(api):
    assert refusals(api, MODULES[api]) == 0


@pytest.mark.parametrize("api", sorted(CASES))
def test_the_services_own_module_does(api):
    """The reason for a module of ours."""
    assert refusals(api, "") > 0
