# SPDX-License-Identifier: Apache-2.0
"""``dockstack hypervisor``: what it prints for OpenStack's files, and what it refuses."""

from __future__ import annotations

from configparser import RawConfigParser
from contextlib import contextmanager, nullcontext

import pytest
from click.testing import CliRunner

from dockstack.cli import hypervisor as command
from dockstack.compute import support
from dockstack.deploy.run import hypervisor_alone
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


def settings(file, *options):
    done = CliRunner().invoke(command.hypervisor, ["settings", file, *options])
    assert done.exit_code == 0, done.exception
    parser = RawConfigParser()
    parser.optionxform = str
    parser.read_string(done.output)
    return parser


def test_nova_conf_follows_the_attributes():
    told = settings("nova.conf", "--set", "docker.own=true", "--set", "docker.lxcfs=false")
    assert told["DEFAULT"]["compute_driver"] == "docker.DockerDriver"
    assert told["docker"]["host_url"] == "unix:///run/dockstack/docker.sock"
    assert told["docker"]["lxcfs_directory"] == ""
    # beside the patches, from where the runtime may mount: no --source has to name it
    assert told["docker"]["state_directory"].rpartition("/")[0] == told["docker"]["patch_directory"].rpartition("/")[0]


def test_a_nova_of_somebody_elses_is_not_patched():
    assert "skip_allocation_lookup" not in settings("nova.conf")["docker"]


def test_glance_is_told_what_to_add_only():
    assert dict(settings("glance-api.conf")["image_format"])["container_formats"] == "docker,dockerref"


def test_tempest_expects_what_the_support_matrix_says():
    flags = support.tempest_flags(support.load())
    told = settings("tempest.conf")["compute-feature-enabled"]
    assert {name: told.getboolean(name) for name in told} == flags
    assert not told.getboolean("live_migration")


@pytest.fixture
def here(monkeypatch, tmp_path):
    """Verbs run on a machine that only notes which; nothing of this one is looked at."""
    seen = []

    @contextmanager
    def machine_here(settings):
        seen.append(sorted(settings.local.roles))
        yield None

    monkeypatch.setattr(command, "require_root", lambda _: None)
    monkeypatch.setattr(command, "exclusive", lambda _: nullcontext())
    monkeypatch.setattr(command, "machine_here", machine_here)
    monkeypatch.setattr(command.paths, "SAVED_OPTIONS", str(tmp_path / "saved.yaml"))
    monkeypatch.setattr(command.preflight, "check_hypervisor", lambda _: seen.append("looked"))
    monkeypatch.setattr(hypervisor_alone, "require_no_cloud", lambda _: seen.append("no cloud"))
    for verb in ("install", "configure", "start", "stop", "cleanup"):
        monkeypatch.setattr(hypervisor_alone.HypervisorAlone, verb, lambda *_, verb=verb: seen.append(verb))

    def run(*words):
        del seen[:]
        done = CliRunner().invoke(command.hypervisor, words)
        return seen, done.exception

    return run


def test_install_looks_first_and_remembers_the_engine(here, tmp_path):
    assert here("install", "--set", "docker.own=true") == (["no cloud", "looked", ["compute"], "install"], None)
    assert "docker.own: true" in (tmp_path / "saved.yaml").read_text()


@pytest.mark.parametrize("verb", ["start", "stop", "cleanup"])
def test_verbs_do_what_they_are_called(here, verb):
    assert here(verb) == (["no cloud", ["compute"], verb], None)


def test_configure_wants_a_python_and_a_user_that_are_there(here):
    seen, refusal = here("configure", "--python", "python3", "--user", "stack")
    assert (seen, type(refusal)) == ([], DockstackError)
    seen, refusal = here("configure", "--python", "/usr/bin/python3", "--user", "nobody-here")
    assert "nobody-here" in refusal.brief
    assert seen == []
    assert here("configure", "--python", "/usr/bin/python3", "--user", "root")[0][-1] == "configure"
