# SPDX-License-Identifier: Apache-2.0
"""The cloud that `dockstack up` built; these tests fail, and do not skip, where it does not answer."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import node
import pytest

from dockstack.errors import DockstackError
from dockstack.verify.cloud import DEFAULT_CLOUD, Choices, connect, find_facts
from dockstack.verify.context import Context
from dockstack.verify.diagnosis import diagnose
from dockstack.verify.model import Timeouts
from dockstack.verify.sweep import only_run, sweep

REPORT = pytest.StashKey[pytest.TestReport]()


@pytest.fixture(scope="session")
def connection():
    try:
        found = connect(DEFAULT_CLOUD)
        sweep(found, 240, lambda text: None, admin=True)
    except DockstackError as error:
        pytest.fail(f"{error}\n{error.details}\nThese tests need the cloud: run `dockstack up` first.", pytrace=False)
    yield found
    found.close()


@pytest.fixture(scope="session")
def facts(connection):
    return find_facts(connection, Choices())


@pytest.fixture
def timeouts():
    """What a machine with other work may need, unless the environment says something else."""
    patient = {"ACTIVE_TIMEOUT": "240", "TERMINATE_TIMEOUT": "240", "ASSOCIATE_TIMEOUT": "120"}
    return replace(Timeouts.from_environment(patient | os.environ), answer=240, command=120)


@pytest.fixture
def alone():
    """No run of `dockstack verify` may sweep what a test makes."""
    with only_run(DEFAULT_CLOUD):
        yield


@pytest.fixture
def pin(ctx, monkeypatch):
    """Have a test's next servers made on the host that it names, and nowhere else."""
    compute = ctx.connection.compute
    ask = compute.create_server

    def on(name, **more):
        monkeypatch.setattr(
            compute, "create_server", lambda **wanted: ask(**wanted, availability_zone=f"nova:{name}", **more)
        )

    return on


@pytest.fixture
def on_this_machine(connection, pin):
    """Servers are made on the machine itself, at whose engine a test looks, and not on its further hosts."""
    pin(node.host_names(connection)[0])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.stash[REPORT] = report
    return report


@pytest.fixture
def ctx(request, connection, facts, timeouts, alone):
    """An exercise's context; after a failure it asks the cloud what it knows, then everything is taken back."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")[:40]
    context = Context(connection, facts, name, print, timeouts)
    with context.stack:
        yield context
        report = request.node.stash.get(REPORT, None)
        if report is None or report.failed:
            print("\n".join(diagnose(context)))
