# SPDX-License-Identifier: Apache-2.0
"""Keystone as dockstack runs it."""

from __future__ import annotations

import subprocess

import pytest

from dockstack.deploy.configuration.apis import KEYSTONE_API
from dockstack.deploy.configuration.scripts import DIRECTORY
from dockstack.deploy.paths import OPENSTACK_VENV

pytestmark = pytest.mark.cloud

CROWD = """
import os, sys, threading
from concurrent.futures import ThreadPoolExecutor
import flask
from importlib import import_module
import_module(os.environ["API"])
from keystone.common.rbac_enforcer.enforcer import RBACEnforcer

# One for all: Flask compiles its routes, which CPython 3.11 cannot do in two threads at this switch interval.
application = flask.Flask("test")
sys.setswitchinterval(1e-6)
together, refused = threading.Barrier(4, timeout=120), []

def ask():
    credentials = {"roles": ["admin"], "user_id": "u", "project_id": "p", "system_scope": None}
    with application.test_request_context():
        together.wait()
        try:
            RBACEnforcer()._enforce(credentials, "identity:validate_token", {})
        except Exception as error:
            refused.append(str(error))

for _ in range(30):
    if "FORGET" in os.environ:
        RBACEnforcer()._reset()
    with ThreadPoolExecutor(4) as pool:
        [asked.result() for asked in [pool.submit(ask) for _ in range(4)]]
print(len(refused))
"""


def refusals(api, **more):
    """How often four threads that ask at once for what they may do are refused, in 30 rounds."""
    python = f"{OPENSTACK_VENV}/bin/python"
    done = subprocess.run(
        [python, "-c", CROWD],
        env={"PYTHONPATH": DIRECTORY, "PYTHONWARNINGS": "ignore", "API": api, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_keystone_refuses_nobody_at_its_first_requests():
    assert refusals(KEYSTONE_API) == 0


def test_keystone_alone_does():
    """The reason for a module of our own; once upstream has mended it, the module may go."""
    assert refusals("keystone.wsgi.api", FORGET="1") > 0
