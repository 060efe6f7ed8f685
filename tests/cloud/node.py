# SPDX-License-Identifier: Apache-2.0
"""The node's processes, for tests that kill them."""

from __future__ import annotations

import calendar
import contextlib
import os
import signal
import threading
import time
from contextlib import contextmanager

import docker
from dockstack.deploy.node.shell import LocalShell
from dockstack.deploy.supervision.backends import choose
from dockstack.deploy.supervision.records import Records
from dockstack.names import NAMESPACES, UUID_LABEL
from dockstack.verify.host import find_traces
from dockstack.verify.probe import answers_ping, wait_until
from dockstack.verify.resources import delete_server, ports_of

RESTART_SECONDS = 180  # each several times what it takes on a quiet machine
RECONCILE_SECONDS = 180
PING_SECONDS = 5  # an answer that is later than that has not come


def engine():
    return docker.APIClient(version="auto", timeout=60)


def pid_of(name):
    """The process of one of the machine's services, as their supervisor knows it; None while it has none.

    By a program's name one would find those of other tests, too.
    """
    service = next(service for service in Records.here().services() if service.name == name)
    return choose(LocalShell(), "auto").look(service).pid


def kill(service, number=signal.SIGKILL):
    """End a service's process as a crash would; return its id."""
    pid = wait_until(lambda: pid_of(service), 60, f"{service} to run", "Run `dockstack up`.")
    os.kill(pid, number)
    return pid


def wait_restarted(service, old):
    return wait_until(
        lambda: (new := pid_of(service)) and new != old and new, RESTART_SECONDS, f"{service} to be started again"
    )


def host_names(connection):
    """The compute hosts, the machine itself first: the names of its further hosts are longer."""
    found = (each.host for each in connection.compute.services(binary="nova-compute"))
    return sorted((name for name in found if not name.startswith("dockstack-bench")), key=len)


def wait_compute_reports(connection, since):
    """Until the machine's own nova-compute has reported after a moment (time.time())."""
    own = host_names(connection)[0]

    def reported():
        services = connection.compute.services(binary="nova-compute", host=own)
        return any(each.state == "up" and epoch(each.updated_at) > since for each in services)

    wait_until(reported, RESTART_SECONDS, "nova-compute to report again", every=1)


def epoch(text):
    return calendar.timegm(time.strptime(text.partition(".")[0], "%Y-%m-%dT%H:%M:%S"))


def wait_engine_answers():
    def answers():
        try:
            return engine().ping()
        except (docker.errors.DockerException, OSError):
            return False

    wait_until(answers, RESTART_SECONDS, "the engine to answer again")


def delete_and_find_nothing(connection, server_id, timeouts):
    """Delete a server; nothing of it may be left, at the latest after the driver's next reconciliation."""
    port_ids = tuple(port.id for port in ports_of(connection, server_id))
    delete_server(connection, server_id, timeouts.terminate)
    left = ["nothing looked at"]

    def clean():
        left[0] = find_traces(server_id, port_ids).describe()
        return not left[0]

    try:
        wait_until(clean, RECONCILE_SECONDS, f"nothing of {server_id} to be left", every=1)
    except Exception as error:
        raise AssertionError(f"{error}: {left[0]}") from error
    assert ports_of(connection, server_id) == []


def container_of(server_id):
    """The server's container as the engine shows it; None if there is none."""
    with contextlib.suppress(docker.errors.NotFound):
        return engine().inspect_container(f"nova-{server_id}")
    return None


def namespace_of(server_id):
    return (NAMESPACES / f"nova-{server_id}").exists()


def stray_containers(connection):
    """Containers that say they are a server's, but Nova knows no such server."""
    known = {server.id for server in connection.compute.servers(all_projects=True)}
    ours = engine().containers(all=True, filters={"label": UUID_LABEL})
    return [each["Labels"][UUID_LABEL] for each in ours if each["Labels"][UUID_LABEL] not in known]


@contextmanager
def pinging(address, every=0.2):
    """Ping all the time; yields the list of answers, one true or false for each."""
    answers, over = [], threading.Event()

    def ping():
        while not over.is_set():
            answers.append(answers_ping(address, PING_SECONDS))
            over.wait(every)

    thread = threading.Thread(target=ping, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join(60)


def longest_silence(answers):
    longest = run = 0
    for answer in answers:
        run = 0 if answer else run + 1
        longest = max(longest, run)
    return longest
