# SPDX-License-Identifier: Apache-2.0
"""What services share was imported before anybody read a configuration: it must not have wanted to know any."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dockstack.deploy import payload
from dockstack.deploy.configuration.neutron import neutron_conf
from dockstack.deploy.configuration.nova import nova_conf, nova_db_conf
from wanted_cloud import settings

PROGRAM = """\
import json, os, runpy, sys, threading
server = runpy.run_path(sys.argv[1])
family, sys.argv[1:] = sys.argv[2], []
from oslo_config import cfg
get, read = cfg.ConfigOpts._do_get, set()
def spy(self, name, group=None, namespace=None):
    read.add(f"{group.name if group else 'DEFAULT'}.{name}")
    return get(self, name, group, namespace)
cfg.ConfigOpts._do_get = spy
with server["_Refusal"]():
    server["load"](server["FAMILIES"]["common"])
before = len(sys.modules)
server["load"](server["FAMILIES"][family])
tasks = len(os.listdir("/proc/self/task"))
print(json.dumps({"read": sorted(read), "modules": len(sys.modules) - before, "tasks": tasks}))
"""
FILES = {
    "nova": lambda wanted: (nova_conf(wanted), nova_db_conf(wanted)),
    "neutron": lambda wanted: (neutron_conf(wanted),),
}
# Neutron's objects warn of statements outside transactions where it is on.
HARMLESS = {"DEFAULT.debug"}


@pytest.fixture(params=FILES)
def shared(request):
    script = Path(payload.__file__).with_name("fork_server.py")
    environment = {**os.environ, "OS_NOVA_DISABLE_EVENTLET_PATCHING": "true", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", PROGRAM, str(script), request.param]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    *complaints, last = done.stdout.splitlines()
    return request.param, complaints, json.loads(last)


def test_no_option_that_we_set_is_read_at_import(shared):
    family, _, seen = shared
    ours = {
        f"{section}.{name}" for ini in FILES[family](settings()) for section, options in ini.items() for name in options
    }
    assert ours
    assert set(seen["read"]) & ours <= HARMLESS


def test_all_is_there_and_nothing_starts_a_thread(shared):
    _, complaints, seen = shared
    assert [line for line in complaints if line.startswith("Not shared") and "nova.virt.docker" not in line] == []
    assert seen["modules"] > 200
    assert seen["tasks"] == 1
