# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.deploy.node.output import Output
from dockstack.deploy.supervision.backends.systemd import Systemd, quote, render
from dockstack.deploy.supervision.services import Check, CheckKind, Service

pytestmark = pytest.mark.unit

SERVICE = Service(
    name="nova-compute", title="Nova's compute node", command=("/opt/x/bin/nova-compute", "--config-file", "/etc/a b"),
    user="nova", groups=("docker", "dockstack-ovs"), environment={"B": 'say "hi" 100%', "A": "1"},
    log="/var/log/nova/nova-compute.log", requires=("rabbitmq",), prepare=(("mkdir", "-p", "/run/x"),), oom_score=-100,
)  # fmt: skip

UNIT = """\
[Unit]
Description=Nova's compute node (dockstack)
PartOf=dockstack.target
After=network.target dockstack-rabbitmq.service
Wants=dockstack-rabbitmq.service
StartLimitIntervalSec=120
StartLimitBurst=10

[Service]
Type=exec
User=nova
SupplementaryGroups=docker dockstack-ovs
Environment="A=1"
Environment="B=say \\"hi\\" 100%%"
ExecStartPre=+mkdir -p /run/x
WorkingDirectory=/
ExecStart=/opt/x/bin/nova-compute --config-file "/etc/a b"
StandardOutput=append:/var/log/nova/nova-compute.log
StandardError=append:/var/log/nova/nova-compute.log
Restart=always
RestartSec=2
KillSignal=SIGTERM
KillMode=control-group
TimeoutStopSec=30
LimitNOFILE=65536
OOMScoreAdjust=-100

[Install]
WantedBy=dockstack.target
"""


class Shell:
    def __init__(self, answers=None):
        self.answers = answers or {}
        self.lines = []
        self.files = {}

    def run(self, command, *, check=True, **_):
        line = command if isinstance(command, str) else " ".join(command)
        self.lines.append(line)
        for part, answer in self.answers.items():
            if part in line:
                return Output(answer is not None, answer or "", "")
        return Output(True, "", "")

    def file(self, path, content, **_):
        changed = self.files.get(path) != content
        self.files[path] = content
        return changed

    def absent(self, path):
        return self.files.pop(path, None) is not None


def test_a_unit():
    assert render(SERVICE) == UNIT


def test_an_engine_keeps_its_children():
    unit = render(Service(name="docker", command=("dockerd",), kill_mode="process"))
    assert "KillMode=process" in unit
    assert "Delegate=yes" in unit


def test_a_service_that_ends_as_asked_has_not_failed():
    assert "SuccessExitStatus=30\n" in render(Service(name="api", command=("uwsgi",), end_statuses=(30,)))


def test_a_unit_of_the_distribution_gets_a_drop_in():
    service = Service(name="docker", command=("dockerd",), unit="docker.service", requires=("x",))
    assert render(service) == "[Unit]\nPartOf=dockstack.target\nAfter=dockstack-x.service\n"


def test_a_foreign_engine_is_not_stopped_with_the_target():
    assert "PartOf" not in render(Service(name="d", command=("x",), unit="docker.service", stoppable=False))


def test_those_that_require_a_service_wait_until_it_is_ready():
    unit = render(Service(name="x", command=("x",), check=Check(CheckKind.UNIX, "/run/x y", timeout=30)))
    assert (
        "ExecStartPost=-+/usr/bin/timeout 30 /bin/sh -c "
        '"while kill -0 \\"$$MAINPID\\" 2>/dev/null && ! test -S \'/run/x y\' >/dev/null 2>&1; do sleep 0.2; done"\n'
        "TimeoutStartSec=120\n"
    ) in unit


def test_nobody_waits_for_an_api():
    assert "ExecStartPost" not in render(Service(name="x", command=("x",), check=Check(CheckKind.HTTP, "http://x/")))


@pytest.mark.parametrize(
    ("word", "quoted"), [("a", "a"), ("a b", '"a b"'), ("100%", '"100%%"'), ("$HOME", '"$$HOME"'), ("", '""')]
)
def test_words_reach_the_process_as_they_are(word, quoted):
    assert quote(word) == quoted


def test_define_writes_the_unit_and_retires_what_it_replaces():
    shell = Shell({"test -L": None})
    service = Service(name="mariadb", command=("mariadbd",), replaces=("mariadb.service",))
    assert Systemd(shell).define(service)
    assert shell.files["/etc/systemd/system/dockstack-mariadb.service"] == render(service)
    assert "systemctl disable --now --quiet mariadb.service" in shell.lines
    assert "systemctl add-wants dockstack.target dockstack-mariadb.service" in shell.lines
    assert shell.lines[-1] == "systemctl daemon-reload"


@pytest.mark.parametrize(("state", "ended"), [("", True), (None, False)])
def test_a_unit_that_it_replaces_is_stopped_where_it_runs_without_being_enabled(state, ended):
    shell = Shell({"is-enabled": None, "is-active": state})
    Systemd(shell).define(Service(name="ovsdb", command=("x",), replaces=("ovs-vswitchd.service",)))
    assert ("systemctl stop ovs-vswitchd.service" in shell.lines) is ended


def test_systemd_itself_stops_services_but_those_that_others_require_are_named_last():
    shell = Shell()
    ended = []
    services = (
        Service(name="api", command=("a",), requires=("database",)),
        Service(name="database", command=("d",)),
        Service(name="docker", command=("d",), unit="docker.service"),
    )
    Systemd(shell).stop_all(services, ended.append)
    assert shell.lines == ["systemctl stop docker.service dockstack-api.service dockstack-database.service"]
    assert ended == list(services)


def test_leaving_takes_the_target_out_of_the_boot():
    shell = Shell()
    shell.files["/etc/systemd/system/dockstack.target"] = "x"
    Systemd(shell).leave()
    assert shell.lines == ["systemctl disable --quiet dockstack.target", "systemctl daemon-reload"]
    assert shell.files == {}


def test_define_again_changes_nothing():
    shell = Shell()
    backend = Systemd(shell)
    backend.define(SERVICE)
    shell.lines.clear()
    assert not backend.define(SERVICE)
    assert "systemctl daemon-reload" not in shell.lines


@pytest.mark.parametrize(
    ("answer", "running", "failed", "waiting"),
    [
        ("ActiveState=active\nMainPID=7\nResult=success\nSubState=running", True, False, False),
        ("ActiveState=failed\nMainPID=0\nResult=exit-code\nSubState=failed", False, True, False),
        ("ActiveState=inactive\nMainPID=0\nResult=success\nSubState=dead", False, False, False),
        ("ActiveState=activating\nMainPID=0\nResult=exit-code\nSubState=auto-restart", False, False, False),
        ("ActiveState=deactivating\nMainPID=7\nResult=success\nSubState=stop-sigterm", False, False, True),
        ("ActiveState=inactive\nJob=4711\nMainPID=0\nResult=success\nSubState=dead", False, False, True),
        ("ActiveState=activating\nJob=4711\nMainPID=7\nResult=success\nSubState=start-post", True, False, False),
    ],
)
def test_look(answer, running, failed, waiting):
    seen = Systemd(Shell({"systemctl show": answer})).look(SERVICE)
    assert (seen.running, seen.failed, seen.waiting) == (running, failed, waiting)
