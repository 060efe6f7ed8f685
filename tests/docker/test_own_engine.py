# SPDX-License-Identifier: Apache-2.0
"""An engine of our own beside one that is somebody else's: that this is seen, and that each leaves the other alone."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from private_engine import ENGINE_ROOT, ENTER_ENGINE_ROOT, remove_directory, wait_for
from server_lab import docker_archive

from dockstack.compute.engine import Engine
from dockstack.deploy import paths
from dockstack.deploy.hypervisors import daemon_json, engine, engine_file
from dockstack.deploy.join import engine_choice
from dockstack.deploy.node.connection import connect
from dockstack.deploy.wanted import inventory
from dockstack.errors import DockstackError

SLEEP = ("/bin/busybox", "sleep", "1000")


def docker(url, *words):
    return subprocess.run(["docker", "-H", url, *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def foreign(private_engine, image_id):
    """A container of somebody's in the machine's engine."""
    label = f"--label={engine_choice.KOLLA_LABEL}=20.1"
    docker(private_engine.url, "run", "-d", "--network=none", "--name=web", label, image_id, *SLEEP)
    yield "web"
    docker(private_engine.url, "rm", "-f", "web")


@pytest.fixture
def own(private_engine, monkeypatch):
    """An engine of our own, as nodes get one, in directories of the test's; both have one containerd."""
    # Where the other's daemons see what is mounted, too, whatever root they are in.
    place = Path(tempfile.mkdtemp(prefix="own-", dir=private_engine.directory))
    monkeypatch.setattr(paths, "RUN", str(place))
    monkeypatch.setattr(paths, "VAR", str(place / "var"))
    monkeypatch.setattr(engine, "OWN_DAEMON_JSON", str(place / "docker.json"))
    attributes = inventory.load(None, ["docker.own=true"]).local.attributes
    places = engine.engine_of(attributes)
    wanted = replace(
        engine_file.wanted_keys(attributes), runtime_path=str(private_engine.runtime_directory / "dockstack-runtime")
    )
    Path(places.daemon_json).write_text(daemon_json.merge(None, wanted, places.daemon_json))
    enter = ENTER_ENGINE_ROOT if ENGINE_ROOT else ()
    command = [*enter, "dockerd", f"--host=unix://{places.socket}", f"--pidfile={places.pidfile}", *places.options]
    running = _Own(places, [*command, f"--containerd={private_engine.containerd_socket}"], place / "log")
    try:
        running.start()
        yield running
    finally:
        running.clean()
        remove_directory(place)


class _Own:
    def __init__(self, places, command, log):
        self.url = f"unix://{places.socket}"
        self._pidfile, self._command, self._log = Path(places.pidfile), command, log

    def start(self):
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_for(self._answers, self._log)

    def _answers(self):
        try:
            Engine(self.url, 5).ping()
        except DockstackError:
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            return False
        return True

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._pidfile.unlink(missing_ok=True)

    def clean(self):
        if self._process.poll() is None:
            for name in docker(self.url, "ps", "-aq").split():
                docker(self.url, "rm", "-f", name)
            self._process.terminate()
            self._process.wait(60)


def seen_in(socket):
    local = inventory.load(None, [f"docker.socket={socket}"]).local
    return engine_choice.ask(connect(local))


def test_containers_of_others_are_told_from_servers(private_engine, lab, foreign):
    lab.boot()
    found = seen_in(private_engine.socket)
    assert (found.others, found.kolla, found.swarm) == ((foreign,), True, False)


def test_an_engine_without_any_is_nobodys(private_engine):
    found = seen_in(private_engine.socket)
    assert (found.others, found.kolla, found.swarm) == ((), False, False)


def test_each_leaves_the_other_alone_though_both_have_one_containerd(private_engine, foreign, own):
    image = Engine(own.url, 180).load_image([docker_archive()])[0]
    docker(own.url, "run", "-d", "--network=none", "--name=web", image, *SLEEP)
    theirs, ours = (
        docker(url, "inspect", "-f", "{{.Id}} {{.State.Pid}}", "web") for url in (private_engine.url, own.url)
    )
    assert theirs != ours
    assert [docker(url, "ps", "-a", "--format={{.Names}}") for url in (private_engine.url, own.url)] == ["web"] * 2
    info = json.loads(docker(own.url, "info", "--format={{json .}}"))
    assert info["LiveRestoreEnabled"]
    assert "dockstack" in info["Runtimes"]
    assert info["DockerRootDir"] == f"{paths.VAR}/docker"
    assert "bridge" not in docker(own.url, "network", "ls", "--format={{.Driver}}").split()

    own.kill()
    assert docker(private_engine.url, "inspect", "-f", "{{.Id}} {{.State.Pid}}", "web") == theirs
    own.start()
    assert docker(own.url, "inspect", "-f", "{{.Id}} {{.State.Pid}}", "web") == ours, "it went on meanwhile"
    docker(own.url, "rm", "-f", "web")
    assert docker(private_engine.url, "inspect", "-f", "{{.State.Running}}", "web") == "true"
