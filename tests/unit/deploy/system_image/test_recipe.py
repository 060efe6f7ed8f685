# SPDX-License-Identifier: Apache-2.0
"""What a system image is made of, without apt and without root."""

from __future__ import annotations

import io
import tarfile

import pytest
import yaml

from dockstack.deploy.system_image.recipe import SUITES, Mirrors, Recipe, machine_mirrors
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

TARGETS = (
    "other\tDebian\tmain\thttp://other.example.org/debian/\n"  # as some have it that call their suite bookworm, too
    "Debian\tDebian\tcontrib\thttp://wrong.example.org/debian/\n"
    "Debian\tDebian\tmain\thttp://mirror.example.org/debian/\n"
    "Debian\tDebian Backports\tmain\thttp://backports.example.org/debian/\n"
    "Debian\tDebian-Security\tmain\thttp://security.example.org/debian-security/\n"
)
MIRRORS = Mirrors("http://mirror.example.org/debian", "http://security.example.org/debian-security")
BOOKWORM = Recipe("bookworm", "amd64")


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def content(data: bytes, name: str) -> str:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read().decode()


def test_the_mirrors_are_the_machines_own():
    assert machine_mirrors(TARGETS) == MIRRORS


def test_a_machine_without_debian_has_none():
    assert machine_mirrors("Ubuntu\tUbuntu\tmain\thttp://ubuntu.example.org/ubuntu/\n") is None


def test_without_security_updates_there_is_no_line_for_them():
    assert "security" not in Mirrors("http://mirror.example.org/debian").sources("bookworm")
    assert "security.example.org/debian-security bookworm-security main" in MIRRORS.sources("bookworm")


def test_a_mirrors_password_does_not_get_into_the_image():
    secret = Mirrors("https://me:pa55@mirror.example.org:8080/debian")
    assert "me:pa55@mirror" in secret.sources("trixie")
    assert "https://mirror.example.org:8080/debian trixie main" in secret.sources("trixie", inside=True)
    assert "pa55" not in secret.sources("trixie", inside=True)


@pytest.mark.parametrize("address", ["mirror", "http://x/ [trusted=yes]", "http://x\ndeb http://y x main"])
def test_what_is_no_address_does_not_get_into_the_sources(address):
    with pytest.raises(DockstackError, match="no address"):
        Mirrors(address)


@pytest.mark.parametrize("name", ["-y", "?all", "a b", "Nginx", "nginx=1", "nginx-", "./x.deb"])
def test_what_is_no_package_is_refused_before_apt_reads_it(name):
    with pytest.raises(DockstackError, match="no name of a package"):
        Recipe("bookworm", "amd64", (name,))


def test_the_same_packages_and_files_have_the_same_name_in_the_cache():
    key = BOOKWORM.key(["a_1_all.deb", "b_1_all.deb"], "sources")
    assert BOOKWORM.key(["b_1_all.deb", "a_1_all.deb"], "sources") == key
    assert BOOKWORM.key(["a_1_all.deb", "b_2_all.deb"], "sources") != key
    assert BOOKWORM.key(["a_1_all.deb", "b_1_all.deb"], "other") != key
    assert Recipe("bookworm", "arm64").key(["a_1_all.deb", "b_1_all.deb"], "sources") != key


def test_our_files_are_always_the_same_bytes_and_belong_to_root():
    files = BOOKWORM.files("sources")
    assert files == BOOKWORM.files("sources")
    found = members(files)
    assert {(member.uid, member.gid, member.mtime) for member in found.values()} == {(0, 0, 0)}
    assert found["usr/lib/dockstack/finish"].mode == 0o755
    assert content(files, "etc/apt/sources.list.d/debian.list") == "sources"


def test_cloud_init_asks_openstack_and_leaves_the_hosts_work_alone():
    settings = yaml.safe_load(content(BOOKWORM.files(""), "etc/cloud/cloud.cfg.d/90-dockstack.cfg"))
    assert settings["datasource_list"] == ["ConfigDrive", "OpenStack", "None"]
    assert settings["network"] == {"config": "disabled"}
    assert settings["growpart"] == {"mode": "off"}
    assert settings["apt"]["preserve_sources_list"] is True


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_has_a_name_and_a_version(suite):
    recipe = Recipe(suite, "amd64")
    assert recipe.name == f"debian-{suite}"
    assert recipe.properties()["os_version"].isdigit()
    assert recipe.properties()["os_admin_user"] == "debian"


def test_lib64_is_there_only_where_programs_look_for_it():
    assert BOOKWORM.lib64 == "lib64"
    assert Recipe("bookworm", "arm64").lib64 == ""
