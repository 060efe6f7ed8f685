# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shlex

import pytest
from supervisor.datatypes import dict_of_key_value_pairs

from dockstack.deploy.supervision.backends.supervisor import SUPERVISORD_CONF, quote, render, wrapped_command
from dockstack.deploy.supervision.services import Service

pytestmark = pytest.mark.unit

PROGRAM = """\
[program:nova-api]
command=/usr/bin/uwsgi '--opt=a b'
user=nova
directory=/
environment=A="1",DOCKSTACK_SERVICE="nova-api",SPT_NOENV="1"
autostart=false
autorestart=true
startsecs=1
startretries=10
stopsignal=TERM
stopwaitsecs=30
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile=/var/log/nova/nova-api.log
stdout_logfile_maxbytes=50MB
stdout_logfile_backups=2
"""


def test_a_program():
    service = Service(
        name="nova-api", command=("/usr/bin/uwsgi", "--opt=a b"), user="nova", environment={"A": "1"},
        log="/var/log/nova/nova-api.log",
    )  # fmt: skip
    assert render(service) == PROGRAM


def test_an_engine_keeps_its_children():
    assert "stopasgroup=false\nkillasgroup=false" in render(Service(name="d", command=("x",), kill_mode="process"))


def test_the_socket_is_roots_alone():
    assert "chmod=0600" in SUPERVISORD_CONF


@pytest.mark.parametrize(
    "word", ["plain", "two words", "it's", 'a "quoted" one', "semi;colon", "back\\slash", "$HOME", ""]
)
def test_words_reach_the_process_as_they_are(word):
    assert shlex.split(quote(word)) == [word]


def test_a_percent_sign_is_not_expanded():
    assert quote("100%") == "100%%"


def test_variables_that_supervisor_cannot_write_go_by_env():
    service = Service(name="x", command=("run",), environment={"GOOD": "100%", "QUOTED": 'a "b"'})
    assert wrapped_command(service) == ("/usr/bin/env", 'QUOTED=a "b"', "run")
    line = next(line for line in render(service).splitlines() if line.startswith("environment="))
    parsed = dict_of_key_value_pairs(line.removeprefix("environment=").replace("%%", "%"))
    assert parsed == {"GOOD": "100%", "DOCKSTACK_SERVICE": "x", "SPT_NOENV": "1"}


def test_groups_are_given_without_a_root_shell():
    service = Service(name="x", command=("run",), user="nova", groups=("docker", "ovs"))
    assert wrapped_command(service) == (
        "/usr/bin/setpriv",
        "--reuid=nova",
        "--regid=nova",
        "--groups=docker,ovs",
        "--",
        "run",
    )
    assert "user=root" in render(service)
