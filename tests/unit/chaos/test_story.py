# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner

from dockstack.chaos.model import GONE, Action, Kill, Victim, Wishes
from dockstack.chaos.states import HOME, OF_VOLUMES, drawable, find_way, lead, may
from dockstack.chaos.story import describe, draw, name_victim
from dockstack.cli.chaos import chaos
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

WISHES = Wishes(seed=7, minutes=10, kills=200, servers=6, hosts=2)
FIRST_ACTS = ["create", "suspend", "resume", "attach", "reboot-hard", "pause", "snapshot", "unpause"]
FIRST_KILLS = ["mariadb", "mariadb", "nova-conductor", "docker", "containerd", "ovs-vswitchd", "migration", "shim"]


def test_the_same_seed_tells_the_same_story_and_another_seed_another():
    assert draw(WISHES) == draw(WISHES)
    assert draw(WISHES) != draw(replace(WISHES, seed=8))


def test_a_slots_part_does_not_change_with_the_number_of_kills_or_slots():
    """Draws of one part must not shift those of another."""
    assert draw(WISHES).acts[0] == draw(replace(WISHES, kills=3, servers=1)).acts[0]


def test_every_decision_is_allowed_in_the_state_to_which_those_before_it_lead():
    for acts in draw(WISHES).acts:
        status = GONE
        for act in acts:
            assert may(act.action, status), f"{act} in {status}"
            status = lead(act.action, status)


def test_a_long_story_has_every_action_and_kills_everything():
    story = draw(replace(WISHES, minutes=60, volumes=True))
    assert {act.action for acts in story.acts for act in acts} == set(Action) - {Action.RECOVER}
    assert {kill.victim for kill in story.kills} == set(Victim)
    assert len(story.kills) == 200
    assert [kill.at for kill in story.kills] == sorted(kill.at for kill in story.kills)


def test_a_cloud_without_volumes_has_the_story_that_it_had_before_there_were_any():
    story = draw(replace(WISHES, minutes=60))
    assert not {act.action for acts in story.acts for act in acts} & OF_VOLUMES
    assert not {kill.victim for kill in story.kills} & {Victim.VOLUMES, Victim.MOUNTS}
    assert [act.action.value for act in story.acts[0][:8]] == FIRST_ACTS
    assert [kill.victim.value for kill in story.kills[:8]] == FIRST_KILLS


def test_a_volume_is_worked_on_only_while_a_server_has_one():
    for acts in draw(replace(WISHES, volumes=True)).acts:
        has = False
        for act in acts:
            assert act.action not in OF_VOLUMES or (act.action is Action.VOLUME_ATTACH) != has
            has = (has or act.action is Action.VOLUME_ATTACH) and act.action not in {
                Action.VOLUME_DETACH,
                Action.DELETE,
            }


def test_the_machine_itself_is_never_lost():
    assert all(kill.host > 0 for kill in draw(WISHES).kills if kill.victim is Victim.HOST)


def test_one_host_is_not_asked_for_what_needs_two():
    story = draw(replace(WISHES, hosts=1))
    assert not {kill.victim for kill in story.kills} & {Victim.HOST, Victim.MIGRATION}
    assert Action.MIGRATE not in {act.action for acts in story.acts for act in acts}
    assert all(kill.host == 0 for kill in story.kills)


def test_a_detachment_is_drawn_only_where_something_was_attached():
    for acts in draw(WISHES).acts:
        attached = False
        for act in acts:
            assert act.action is not (Action.ATTACH if attached else Action.DETACH)
            attached = (attached or act.action is Action.ATTACH) and act.action not in {Action.DETACH, Action.DELETE}


def test_there_is_a_way_to_active_from_every_state_that_a_story_knows():
    for status, step in HOME.items():
        assert may(step, status)
        assert lead(step, status) == "ACTIVE"


def test_a_server_in_another_state_than_the_story_thinks_is_brought_to_active_first():
    assert find_way(Action.PAUSE, "ACTIVE") == (Action.PAUSE,)
    assert find_way(Action.PAUSE, "SHUTOFF") == (Action.START, Action.PAUSE)
    assert find_way(Action.MIGRATE, "ERROR") == (Action.RECOVER, Action.MIGRATE)
    assert find_way(Action.STOP, GONE) == (Action.CREATE, Action.STOP)
    assert find_way(Action.UNPAUSE, "SHUTOFF") is None, "there is nothing to unpause"
    assert find_way(Action.CREATE, "ACTIVE") is None


def test_nothing_that_a_person_would_not_ask_for_is_drawn():
    assert all(Action.RECOVER not in drawable(status, 2) for status in ("ACTIVE", "ERROR", GONE))


def test_the_plan_is_printed_whole_and_no_cloud_is_asked():
    done = CliRunner().invoke(
        chaos, ["--seed", "7", "--minutes", "10", "--kills", "200", "--hosts", "2", "--plan", "--os-cloud", "no-such"]
    )
    assert done.exit_code == 0
    assert done.output.splitlines() == list(describe(draw(WISHES)))


def test_a_kill_is_told_with_where_it_strikes():
    assert name_victim(Kill(0, 1.0, Victim.ENGINE, host=1)) == "docker on host 1"
    assert name_victim(Kill(0, 1.0, Victim.BUS)) == "rabbitmq"
    assert name_victim(Kill(0, 1.0, Victim.SHIM, slot=3)) == "the shim of server 3"
    assert "stays away for 2.0 s" in name_victim(Kill(0, 1.0, Victim.HOST, host=1, away=2.0))


def test_only_what_is_asked_for_is_killed_and_the_servers_story_stays_the_same():
    story = draw(replace(WISHES, victims=(Victim.SHIM, Victim.SCHEDULER)))
    assert {kill.victim for kill in story.kills} == {Victim.SHIM, Victim.SCHEDULER}
    assert story.acts == draw(WISHES).acts
    with pytest.raises(DockstackError, match="no host to be killed"):
        draw(replace(WISHES, hosts=1, victims=(Victim.HOST,)))
    with pytest.raises(DockstackError, match="no cinder-volume or mount-broker"):
        draw(replace(WISHES, victims=(Victim.VOLUMES, Victim.MOUNTS)))
