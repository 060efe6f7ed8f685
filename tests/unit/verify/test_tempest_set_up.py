# SPDX-License-Identifier: Apache-2.0
"""Tempest's configuration and which of its tests are run."""

from __future__ import annotations

import sys
import tarfile
from configparser import RawConfigParser
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard

from dockstack.deploy.configuration.nova import FILTERS
from dockstack.errors import DockstackError
from dockstack.verify.tempest.configuration import build, render
from dockstack.verify.tempest.discover import compress, read_volumes
from dockstack.verify.tempest.model import Credentials, TempestFacts, VolumeFacts
from dockstack.verify.tempest.selection import (
    APART,
    NEED_SWAP,
    NEED_VFAT,
    Choice,
    class_of,
    load_excluded,
    load_interop,
    name_of,
    select,
)
from dockstack.verify.tempest.workspace import Workspace

pytestmark = pytest.mark.unit

ADMIN = Credentials("http://cloud:5000/v3", "admin", "pa$$word", "admin", "Default", "Default", "RegionOne")
FACTS = TempestFacts(
    admin=ADMIN,
    services=frozenset({"compute", "image", "network", "identity"}),
    compute_versions=("2.1", "2.104"),
    placement_versions=("1.0", "1.39"),
    extensions=("port-security", "router"),
    external_network=("net-id", "public"),
    guaranteed_network="physical",
    hosts=("here", "there"),
    image="image-id",
    image_alternative="other-id",
    image_file=Path("/state/image-id.tar"),
    flavor="small-id",
    flavor_alternative="large-id",
    login_user="dockstack",
)
TESTS = (
    "tempest.api.compute.servers.test_a.A.test_one[id-1,smoke]",
    "tempest.api.compute.servers.test_a.A.test_two[id-2]",
    "tempest.scenario.test_b.B.test_three[compute,id-3,network,smoke]",
)


def settings(**changes):
    return build(replace(FACTS, **changes), {"pause": True, "resize": False}, Path("/state"))


def test_flags_are_the_driver_s_and_the_api_s():
    flags = settings()["compute-feature-enabled"]
    assert (flags["pause"], flags["resize"], flags["disk_config"]) == ("true", "false", "true")


def test_tests_of_hints_are_on_because_our_clouds_have_their_filters():
    assert settings()["compute-feature-enabled"]["scheduler_enabled_filters"].split(",") == list(FILTERS)


def test_services_and_extensions_are_what_the_cloud_says():
    found = settings()
    assert found["service_available"]["nova"] == "true"
    assert found["service_available"]["cinder"] == "false"
    assert found["network-feature-enabled"]["api_extensions"] == "port-security,router"
    assert found["compute"]["max_microversion"] == "2.104"
    assert found["compute"]["min_compute_nodes"] == "2"
    assert found["compute"]["migration_source_host"] == "here"
    assert found["compute"]["migration_dest_host"] == "there"


def test_of_volumes_it_knows_what_cinder_says():
    assert not {"volume", "volume-feature-enabled"} & settings().keys()
    facts = VolumeFacts(("3.0", "3.71"), "dockstack", "file", "file-multiattach")
    found = settings(volumes=facts)
    assert (found["volume"]["storage_protocol"], found["volume"]["max_microversion"]) == ("file", "3.71")
    assert found["volume"]["volume_type_multiattach"] == "file-multiattach"
    assert found["volume-feature-enabled"]["manage_volume"] == "true"
    others = settings(volumes=replace(facts, vendor="Open Source", multiattach_type=None))
    assert others["volume-feature-enabled"]["manage_volume"] == "false"


def test_volumes_are_described_by_the_backend_and_the_types():
    pools = [SimpleNamespace(capabilities={"vendor_name": "dockstack", "storage_protocol": "file"})]
    kinds = [
        SimpleNamespace(name="file", extra_specs={}),
        SimpleNamespace(name="shared", extra_specs={"multiattach": "<is> True"}),
    ]
    versions = SimpleNamespace(min_microversion=(3, 0), max_microversion=(3, 71))
    block_storage = SimpleNamespace(
        backend_pools=lambda: iter(pools), types=lambda: iter(kinds), get_endpoint_data=lambda: versions
    )
    cloud = SimpleNamespace(block_storage=block_storage)
    assert read_volumes(cloud) == VolumeFacts(("3.0", "3.71"), "dockstack", "file", "shared")
    pools.clear()
    assert read_volumes(cloud) is None


def test_the_image_that_tests_upload_is_none_that_tempest_unpacks(tmp_path):
    plain = tmp_path / "image-id.tar"
    with tarfile.open(plain, "w") as archive:
        archive.addfile(tarfile.TarInfo("manifest.json"))
    (tmp_path / "former.tar.zst").touch()
    packed = compress(plain)
    assert tarfile.is_tarfile(plain)
    assert sys.version_info >= (3, 14) or not tarfile.is_tarfile(packed)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed.read_bytes()) == plain.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image-id.tar", "image-id.tar.zst"]
    assert compress(plain) == packed


def test_on_one_host_nobody_is_moved_to_another():
    assert "migration_dest_host" not in settings(hosts=("here",))["compute"]


def test_bandwidth_is_guaranteed_where_hosts_offer_some():
    assert settings()["network-feature-enabled"]["qos_placement_physnet"] == "physical"
    assert "qos_placement_physnet" not in settings(guaranteed_network=None)["network-feature-enabled"]


def test_images_are_of_formats_that_docker_hosts_boot_from():
    assert settings()["image"]["disk_formats"] == "raw"


def test_servers_are_logged_in_to():
    validation = settings()["validation"]
    assert (validation["run_validation"], validation["connect_method"]) == ("true", "floating")
    assert validation["image_ssh_user"] == "dockstack"


def test_a_cloud_without_an_external_network_has_no_floating_ips():
    found = settings(external_network=None)
    assert found["network"] == {}
    assert found["network-feature-enabled"]["floating_ips"] == "false"


def test_the_file_is_read_back_as_it_was_built():
    parser = RawConfigParser()
    parser.read_string(render(settings()))
    assert parser["auth"]["admin_password"] == "pa$$$$word"
    assert parser["compute"]["image_ref"] == "image-id"


def test_the_file_is_for_us_alone_to_read(tmp_path):
    workspace = Workspace(tmp_path / "tempest")
    with workspace.alone():
        workspace.configure(settings())
        with pytest.raises(DockstackError, match="at work"), workspace.alone():
            pass
    assert workspace.configuration_file.stat().st_mode & 0o777 == 0o600
    assert workspace.directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(), TESTS),
        (Choice(("compute.*one", "scenario")), (TESTS[0], TESTS[2])),
        (Choice(smoke=True), (TESTS[0], TESTS[2])),
        (Choice(("compute",), smoke=True), (TESTS[0],)),
        (Choice(names=frozenset({"tempest.api.compute.servers.test_a.A.test_two"})), (TESTS[1],)),
    ],
)
def test_tests_are_chosen(choice, expected):
    assert select(TESTS, choice, {}).tests == expected


def test_what_no_container_can_pass_is_left_out_with_its_reason():
    selection = select(TESTS, Choice(), {name_of(TESTS[1]): "why"})
    assert selection.tests == (TESTS[0], TESTS[2])
    assert selection.excluded == {name_of(TESTS[1]): "why"}


@pytest.mark.parametrize(("lacking", "left_out"), [("swap", NEED_SWAP), ("vfat", NEED_VFAT)])
def test_what_a_machine_lacks_leaves_out_what_needs_it(lacking, left_out):
    has = {"swap": True, "vfat": True}
    everything, without = load_excluded(**has), load_excluded(**has | {lacking: False})
    assert left_out.isdisjoint(everything)
    assert without.keys() - everything.keys() == left_out
    assert all(why.startswith("No container can pass it: ") for why in everything.values())


@pytest.mark.parametrize("pattern", ["(", "no.such.test"])
def test_a_choice_of_nothing_is_refused(pattern):
    with pytest.raises(DockstackError):
        select(TESTS, Choice((pattern,)), {})


def test_the_impossible_are_few_and_each_has_a_reason():
    impossible = load_excluded(swap=True, vfat=True)
    assert len(impossible) == 23
    assert all(len(why) > 20 for why in impossible.values())


def test_the_guideline_s_tests_are_all_there():
    names = load_interop()
    assert len(names) == 173
    wants_lsblk_heading = "test_attach_volume.AttachVolumeTestJSON.test_attach_detach_volume"
    assert names & load_excluded(swap=True, vfat=True).keys() == {f"tempest.api.compute.volumes.{wants_lsblk_heading}"}
    assert "tempest.api.compute.servers.test_create_server.ServersTestJSON.test_verify_created_server_vcpus" in names


def test_a_class_is_found_in_both_kinds_of_names():
    assert class_of("a.b.Class.test_it") == "a.b.Class"
    assert class_of("setUpClass (a.b.Class)") == "a.b.Class"


def test_a_test_that_takes_its_neighbours_address_runs_when_they_are_done():
    (name,) = APART
    apart = f"{name}[id-4]"
    assert select((apart, *TESTS), Choice(), {}).rounds == (TESTS, (apart,))
    assert select((apart,), Choice(), {}).rounds == ((apart,),)
    assert select(TESTS, Choice(), {}).rounds == (TESTS,)
