# SPDX-License-Identifier: Apache-2.0
"""A cloud whose services die: what is asked again, what is a refusal, and when an action counts as over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from keystoneauth1 import exceptions as auth_errors
from openstack import exceptions as sdk_errors

from dockstack.chaos import cloud
from dockstack.cli.chaos import refuse_strangers
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(cloud, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(cloud, "BEGIN_SECONDS", 0.2)


def answers(*wanted):
    """A question that is answered so, one after the other; the last answer stays."""
    left = list(wanted)

    def ask():
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def http(status):
    return sdk_errors.HttpException("said", http_status=status)


def server(status, task=None):
    return SimpleNamespace(status=status, task_state=task)


def connection(*servers):
    look = answers(*servers)
    return SimpleNamespace(compute=SimpleNamespace(get_server=lambda _: look()))


def test_a_dead_service_is_asked_again():
    assert cloud.ask(answers(http(503), auth_errors.ConnectFailure("refused"), OSError("reset"), "answer")) == "answer"


def test_no_is_an_answer():
    with pytest.raises(sdk_errors.HttpException):
        cloud.ask(answers(http(409)))


def test_patience_ends_and_says_what_to_do():
    with pytest.raises(cloud.Unanswered, match="did not answer") as error:
        cloud.ask(answers(http(503)), 0.01)
    assert "dockstack status" in error.value.resolution


@pytest.mark.parametrize(
    ("error", "kind"), [(http(409), cloud.Refused), (http(500), cloud.Unsure), (OSError(), cloud.Unsure)]
)
def test_a_lost_answer_is_no_refusal(error, kind):
    with pytest.raises(kind), cloud.doing():
        raise error


def test_a_server_that_nova_does_not_know_is_none():
    assert cloud.look(connection(sdk_errors.NotFoundException("gone", http_status=404)), "id") is None


def test_an_action_is_over_when_it_has_begun_and_nothing_is_done_any_more():
    seen = connection(server("ACTIVE"), server("ACTIVE", "powering-off"), server("SHUTOFF"), server("PAUSED"))
    assert cloud.settle(seen, "id", 5, expected="SHUTOFF").status == "SHUTOFF"


def test_an_action_that_leads_nowhere_is_waited_for_only_a_while():
    assert cloud.settle(connection(server("ACTIVE")), "id", 5, expected="SHUTOFF").status == "ACTIVE"


def test_a_server_in_build_is_never_settled():
    assert cloud.settle(connection(server("BUILD")), "id", 0.05).status == "BUILD"


def test_the_task_that_a_failed_resize_leaves_is_no_work():
    assert cloud.is_settled(server("ERROR", "resize_migrated"))
    assert not cloud.is_settled(server("ERROR", "deleting"))
    assert not cloud.is_settled(server("ACTIVE", "resize_prep"))


def strangers(*names):
    servers = [SimpleNamespace(name=name) for name in names]
    return SimpleNamespace(compute=SimpleNamespace(servers=lambda **_: servers))


def test_servers_of_others_are_named_and_not_endangered():
    with pytest.raises(DockstackError, match="2 servers of others, which chaos endangers: db, web") as error:
        refuse_strangers(strangers("web", "db", "dockstack-verify-chaos-0"), yes=False)
    assert "--yes" in error.value.resolution
    refuse_strangers(strangers("web"), yes=True)
    refuse_strangers(strangers("dockstack-verify-chaos-0"), yes=False)
