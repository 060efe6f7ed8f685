# SPDX-License-Identifier: Apache-2.0
"""A new host is let in: mapped, proven on exactly that host while disabled, then enabled."""

from __future__ import annotations

import threading
import time

import pytest

from dockstack.deploy.administration import enrolment, mapping
from dockstack.deploy.administration.enrolment import REASON, Enrolled, Enrolment
from dockstack.deploy.administration.mapping import Mapping
from dockstack.deploy.administration.proof import Proof
from dockstack.errors import DockstackError
from fake_cloud import DISABLED

pytestmark = pytest.mark.unit
PROPERTIES = {"img_hv_type": "docker", "trait:CUSTOM_DOCKER": "required"}


@pytest.fixture
def enrol(cloud, told):
    def run(host="new", command="", proof=True, aggregate="", anew=False):
        one = Enrolment(cloud, Mapping(cloud, command), Proof(cloud) if proof else None)
        return one.enrol(host, told.append, aggregate, anew=anew)

    return run


def test_it_is_proven_while_disabled_and_enabled_after(fake, enrol, told):
    fake.add_host("new", enabled=False, reason=REASON)
    done = enrol()
    assert (done.enabled, done.mapped) == (True, False)
    assert done.proof > 0
    assert told == ["Booting a test server on it", "Removing the test server", "Enabling it"]
    changes = [each.partition(" /")[2].partition("/")[0] for each in fake.changes()]
    assert changes.index("placement") < changes.index("compute"), "the trait goes before the server comes"
    assert (fake.servers, fake.networks) == ({}, {}), "nothing of the proof is left"
    assert fake.services["new"]["status"] == "enabled"


def test_it_goes_into_its_aggregate_when_it_is_proven(fake, enrol, told):
    fake.add_host("new", enabled=False, reason=REASON)
    enrol(aggregate="docker")
    assert told[1:] == ["Removing the test server", "Put into the aggregate docker", "Enabling it"]
    assert fake.aggregates == {1: {"name": "docker", "hosts": ["new"], "metadata": PROPERTIES}}
    changes = len(fake.changes())
    enrol(aggregate="docker")
    assert len(fake.changes()) == changes, "a second run changes nothing"


@pytest.mark.parametrize(("there", "after"), [({"rack": "1"}, {"rack": "1"}), ({}, PROPERTIES)])
def test_an_aggregate_that_is_there_keeps_its_properties_and_one_that_is_half_made_gets_them(fake, enrol, there, after):
    fake.aggregates[1] = {"name": "docker", "hosts": [], "metadata": there}
    fake.add_host("new")
    assert enrol(aggregate="docker").enabled
    assert fake.aggregates[1] == {"name": "docker", "hosts": ["new"], "metadata": after}


def test_the_host_is_hidden_again_when_the_proof_is_over(fake, enrol):
    fake.add_host("new", enabled=False, reason=REASON)
    fake.boots = False
    with pytest.raises(DockstackError, match="did not become active on new: The engine is broken") as refused:
        enrol()
    assert "stays disabled" in refused.value.resolution
    assert fake.services["new"]["status"] == "disabled"
    assert DISABLED in fake.provider_of("new")["traits"]
    assert (fake.servers, fake.networks) == ({}, {})


def test_a_trait_that_nova_compute_puts_back_in_between_is_no_failure(fake, enrol):
    fake.add_host("new", enabled=False, reason=REASON)
    create, came = fake.create_server, []

    def overtaken(query, body):
        if not came:
            fake.provider_of("new")["traits"].add(DISABLED)
        came.append(1)
        return create(query, body)

    fake.ROUTES = tuple(
        (m, p, (lambda _, *given: overtaken(*given)) if do is type(fake).create_server else do)
        for m, p, do in fake.ROUTES
    )
    assert enrol().enabled
    assert len(came) == 2


def test_what_a_killed_proof_has_left_goes_first(fake, enrol):
    fake.add_host("new", enabled=False, reason=REASON)
    fake.add_server("dockstack-proof-new", "new")
    fake.add_server("dockstack-proof-new2", "other")
    fake.networks["old"] = {"name": "dockstack-proof-new"}
    enrol()
    assert [each["name"] for each in fake.servers.values()] == ["dockstack-proof-new2"]
    assert fake.networks == {}


def test_one_that_is_in_is_left_alone(fake, enrol):
    fake.add_host("new")
    assert enrol() == Enrolled(enabled=True)
    assert fake.changes() == []


@pytest.mark.parametrize("reason", [None, "broken fan"], ids=["enabled", "disabled"])
def test_one_that_is_in_must_report_with_another_nova_compute(fake, enrol, told, monkeypatch, reason):
    monkeypatch.setattr(enrolment, "PATIENCE", 0.01)
    monkeypatch.setattr(enrolment, "POLL", 0.001)
    fake.add_host("new", enabled=reason is None, reason=reason)
    assert enrol(anew=True).enabled is (reason is None)
    assert told == ["Waiting until the cloud hears from its nova-compute"]
    fake.silent = True  # for a minute, Nova takes it for up
    with pytest.raises(DockstackError, match="nova-compute on new has not reported"):
        enrol(anew=True)
    assert fake.changes() == []


def test_one_that_is_forced_down_is_so_whatever_it_reports(fake, enrol, monkeypatch):
    monkeypatch.setattr(enrolment, "POLL", 0.001)
    fake.add_host("new")
    fake.services["new"] |= {"forced_down": True, "state": "down"}
    assert enrol(anew=True) == Enrolled(enabled=True)


def test_one_that_somebody_else_has_disabled_stays_so(fake, enrol):
    fake.add_host("new", enabled=False, reason="broken fan")
    assert enrol() == Enrolled(enabled=False, reason="broken fan")
    assert fake.changes() == []


def test_without_a_test_server_it_is_enabled_unproven(fake, enrol):
    fake.add_host("new", enabled=False, reason=REASON)
    fake.images = []
    with pytest.raises(DockstackError, match="no container image to prove"):
        enrol()
    assert enrol(proof=False) == Enrolled(enabled=True)


def test_one_that_does_not_report_is_waited_for_and_named(fake, enrol, monkeypatch):
    monkeypatch.setattr(enrolment, "PATIENCE", 0.01)
    fake.add_host("new", enabled=False, reason=REASON, up=False)
    with pytest.raises(DockstackError, match="nova-compute on new is down"):
        enrol()


def test_a_command_maps_it(fake, enrol, tmp_path):
    fake.add_host("new", enabled=False, reason=REASON, mapped=False)
    fake.add_host("other", mapped=False)
    ran = tmp_path / "ran"

    def follow() -> None:
        while not ran.exists():
            time.sleep(0.001)
        fake.mapped.add("new")

    threading.Thread(target=follow, daemon=True).start()
    assert enrol(command=f"echo once >>{ran}").mapped
    assert ran.read_text() == "once\n"


def test_a_mapper_that_is_at_work_is_tried_again(fake, cloud, tmp_path, monkeypatch, told):
    monkeypatch.setattr(mapping, "BUSY_PAUSE", 0.001)
    monkeypatch.setattr(mapping, "AFTER_COMMAND", 0.05)
    fake.add_host("new", mapped=False)
    twice = f"echo x >>{tmp_path}/ran; test $(wc -l <{tmp_path}/ran) -gt 2 || exit 2; echo Cannot connect; exit 1"
    with pytest.raises(DockstackError, match="ended with status 1") as refused:
        Mapping(cloud, twice).ensure("new", told.append)
    assert refused.value.details == "Cannot connect"
    assert (tmp_path / "ran").read_text() == "x\nx\nx\n"


def test_two_hosts_never_have_two_mappers_at_a_time(fake, cloud, tmp_path, told):
    for name in ("a1", "b1"):
        fake.add_host(name, mapped=False)
    ended = threading.Event()
    line = f"mkdir {tmp_path}/at-work || exit 1; sleep 0.05; rmdir {tmp_path}/at-work; echo >>{tmp_path}/ran"
    one = Mapping(cloud, line)

    def controller():
        while not ended.wait(0.01):
            if (tmp_path / "ran").exists():
                fake.mapped.update(("a1", "b1"))

    watching = threading.Thread(target=controller)
    watching.start()
    threads = [threading.Thread(target=one.ensure, args=(name, told.append)) for name in ("a1", "b1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    watching.join()
    assert fake.mapped == {"a1", "b1"}


def test_where_nobody_maps_it_the_person_is_told_what_does(fake, cloud, monkeypatch, told):
    monkeypatch.setattr(mapping, "PATIENCE", 0.01)
    fake.add_host("new", mapped=False)
    with pytest.raises(DockstackError, match="No controller has mapped new") as refused:
        Mapping(cloud).ensure("new", told.append)
    assert "nova-manage cell_v2 discover_hosts" in refused.value.resolution
    assert "nova-manage cell_v2 discover_hosts" in told[0]
