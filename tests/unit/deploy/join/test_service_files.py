# SPDX-License-Identifier: Apache-2.0
"""What files of other deployers' clouds tell; the files are in tests/cloud_files.py."""

from __future__ import annotations

import pytest

import cloud_files
from dockstack.deploy.join import service_files
from dockstack.deploy.wanted.attributes import SourceValues
from dockstack.deploy.wanted.cloud_document import CloudDocument, CloudIncompleteError
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit
RELEASE = SourceValues("test", {"release": "2026.1"})


def found_in(files, directory):
    return service_files.read(cloud_files.write(files, directory))


def test_a_compute_node_of_kolla_tells_all_but_the_release(tmp_path):
    found = found_in(cloud_files.KOLLA, tmp_path)
    document = CloudDocument(found.sources)
    assert [problem.key for problem in document.problems()] == ["release"]
    assert not found.problems  # the system's bundle of certificates is everywhere
    document = CloudDocument([*found.sources, RELEASE])
    document.require_usable("")
    values = document.values
    assert values["messaging.transport_url"].endswith("openstack:bus-pw@10.1.0.12:5672//")
    assert values["messaging.rabbit_quorum_queue"] is True
    assert values["messaging.rabbit_qos_prefetch_count"] == 50
    assert values["messaging.rabbit_ha_queues"] is False
    assert values["ovn.southbound"] == ("tcp:10.1.0.11:16641",)
    assert values["ovn.northbound"] == ("tcp:10.1.0.11:6641", "tcp:10.1.0.12:6641")
    assert (values["metadata.host"], values["metadata.port"]) == ("10.1.0.10", 8775)
    assert values["consoles.novnc_url"] == "https://cloud.example.org:6080/vnc_lite.html"
    passwords = {name: values[f"accounts.{name}.password"] for name in ("nova", "placement", "neutron", "cinder")}
    assert passwords == {name: f"{name}-pw" for name in passwords}


def test_each_value_names_its_file_section_and_option(tmp_path):
    document = CloudDocument(found_in(cloud_files.KOLLA, tmp_path).sources)
    assert document.values.setting("identity.auth_url").source == f"{tmp_path}/nova.conf [placement] auth_url"
    assert document.values.setting("accounts.nova.password").source == f"{tmp_path}/nova.conf [service_user] password"
    assert document.values.setting("messaging.rabbit_ha_queues").source == "default"


def test_a_controllers_files_tell_with_references_and_quotes_resolved(tmp_path):
    found = found_in(cloud_files.BY_HAND, tmp_path)
    values = CloudDocument(found.sources).values
    assert values["messaging.transport_url"] == "rabbit://nova:bus$pw@192.0.2.5:5672/"
    assert values["messaging.neutron_transport_url"] == "rabbit://neutron:neutron-bus-pw@192.0.2.5:5672/"
    assert values["accounts.nova.password"] == "nova-pw"
    assert values["accounts.placement.username"] == "placement"
    assert values["accounts.placement.password"] == "placement-pw"
    assert values["network.mechanism"] == "openvswitch"
    assert values["openvswitch.l2_population"] is True
    (warning,) = found.warnings
    assert "is a controller's" in warning


def test_no_databases_password_comes_in(tmp_path):
    document = CloudDocument(found_in(cloud_files.BY_HAND, tmp_path).sources)
    told = " ".join(str(setting.value) for _, setting in document.settings())
    assert "nova-pw" in told
    assert not [password for password in cloud_files.DATABASE_PASSWORDS if password in told]


def test_what_is_missing_is_named_at_once(tmp_path):
    found = found_in({"nova.conf": cloud_files.BY_HAND["nova.conf"]}, tmp_path)
    with pytest.raises(CloudIncompleteError) as refused:
        CloudDocument(found.sources).require_usable("")
    named = [line.split(":")[0] for line in refused.value.details.splitlines()]
    assert named == ["- release", "- ovn.southbound", "- ovn.northbound", "- metadata.host"]


def test_certificates_that_a_file_only_names_are_asked_for(tmp_path):
    files = {name: text.replace("/etc/ssl/certs/ca-certificates.crt", "/etc/own.pem") for name, text in KOLLA_ITEMS}
    found = found_in(files, tmp_path)
    with pytest.raises(CloudIncompleteError, match="a key is missing") as refused:
        CloudDocument([*found.sources, RELEASE]).require_usable("", found.problems)
    assert "tls.authority: " in refused.value.details
    given = SourceValues("own.pem", {"tls.authority": "PEM"})
    CloudDocument([*found.sources, RELEASE, given]).require_usable("", found.problems)


def test_another_way_to_log_in_is_refused(tmp_path):
    files = {"nova.conf": "[placement]\nauth_url = http://192.0.2.5\nauth_type = v3applicationcredential\n"}
    (problem,) = found_in(files, tmp_path).problems
    assert problem.key == "accounts.placement.password"
    assert "v3applicationcredential" in problem.text


def test_the_account_that_nova_sends_along_counts_more_than_the_one_that_checks_tokens(tmp_path):
    text = "[{}]\nauth_url = http://192.0.2.1\nusername = {}\n"
    parts = [("service_user", "nova"), ("keystone_authtoken", "checker"), ("placement", "p")]
    found = found_in({"nova.conf": "".join(text.format(*part) for part in parts)}, tmp_path)
    assert CloudDocument(found.sources).text("accounts.nova.username") == "nova"


def test_a_domain_that_is_given_by_its_id_only_is_asked_for(tmp_path):
    of_cinder = KOLLA_ITEMS[0][1].replace("username = cinder", "user_domain_id = 4711\nusername = cinder")
    found = found_in({**cloud_files.KOLLA, "nova.conf": of_cinder}, tmp_path)
    with pytest.raises(CloudIncompleteError) as refused:
        CloudDocument([*found.sources, RELEASE]).require_usable("", found.problems)
    assert refused.value.details.startswith("- accounts.cinder.user_domain: ")
    given = SourceValues("test", {"accounts.cinder.user_domain": "services"})
    CloudDocument([*found.sources, RELEASE, given]).require_usable("", found.problems)


def test_iptables_hybrid_is_refused_where_the_deployers_agent_would_have_it(tmp_path):
    files = {"ml2_conf.ini": "[ml2]\nmechanism_drivers = M\n[securitygroup]\nfirewall_driver = iptables_hybrid\n"}
    cases = (("openvswitch", "deployer", True), ("openvswitch", "own", False), ("ovn", "deployer", False))
    for mechanism, switch, refused in cases:
        written = {name: text.replace("= M", f"= {mechanism}") for name, text in files.items()}
        said = SourceValues("test", {"network.switch": switch})
        problems = CloudDocument([*found_in(written, tmp_path).sources, said]).problems()
        assert ("openvswitch.firewall_driver" in [problem.key for problem in problems]) is refused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[DEFAULT]\ndebug = true\n", "tells nothing"),
        ("no section\n", "is no configuration file"),
        ("[DEFAULT]\nnova_metadata_host = $my_ip\n", "refers to an option"),
        ("[DEFAULT]\nnova_metadata_port = many\n", "metadata.port"),
    ],
)
def test_a_file_that_tells_nothing_is_refused(tmp_path, text, said):
    with pytest.raises(DockstackError, match=said):
        CloudDocument(found_in({"some.conf": text}, tmp_path).sources)


KOLLA_ITEMS = tuple(cloud_files.KOLLA.items())
