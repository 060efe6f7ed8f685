# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dockstack.deploy.configuration import desired_state, haproxy, nova, programs
from dockstack.deploy.configuration.apis import uwsgi_files
from dockstack.deploy.configuration.cinder import CONF, cinder_conf
from dockstack.deploy.configuration.privilege import sudoers
from dockstack.deploy.hypervisors import storage
from dockstack.deploy.recipes import cinder as recipe
from dockstack.deploy.run import teardown
from dockstack.deploy.supervision.services import Service
from dockstack.deploy.wanted.inventory import load, remember
from wanted_cloud import settings, stages

pytestmark = pytest.mark.unit

WANTED = "volumes.enable=true"
CINDER = {"cinder-files", "cinder-database", "cinder-account", "cinder", "volume-types"}


def test_a_cloud_without_volumes_has_nothing_of_it():
    found = stages()
    assert found.keys() & CINDER == {"cinder"}
    assert found["cinder"].apply is recipe.stop
    plain = settings()
    assert "cinder-api" not in uwsgi_files(plain)
    assert "cinder" not in haproxy.api_ports(plain)
    assert "catalog_info" not in nova.nova_conf(plain)["cinder"]


def test_volumes_are_remembered_until_somebody_says_no(tmp_path):
    saved = tmp_path / "saved-options.yaml"

    def chosen(*assignments):
        found = load(None, assignments, saved_options=saved).local.attributes
        remember(saved, recipe.to_remember(found))
        return found.flag("volumes.enable"), found.text("volumes.storage")

    assert chosen("volumes.enable=true", "volumes.storage=directory") == (True, "directory")
    assert chosen() == (True, "directory")
    assert chosen("volumes.enable=false") == (False, "directory")
    assert chosen() == (False, "directory")


def test_it_starts_when_what_it_asks_is_there():
    found = stages(WANTED)
    assert found.keys() >= CINDER
    assert {"cinder-database", "cinder-account", "glance", "hypervisor-configure"} <= set(found["cinder"].after)
    assert "openstack-environment" in stages(WANTED, "docker.enable=false")["cinder"].after
    assert "database" in found["cinder-database"].after


def test_the_pool_is_mounted_before_who_looks_into_it():
    """A further host has the mounts of when its namespace was made; nova-compute resumes servers when it starts."""
    found = stages(WANTED, "hosts=2")
    assert "cinder-files" in found["compute"].after
    assert "cinder-files" in found["host2-switch"].after
    assert "cinder-files" not in stages("hosts=2")["host2-switch"].after


def test_nova_and_the_proxy_know_of_it():
    wanted = settings(WANTED, "ports.cinder=8777")
    assert nova.nova_conf(wanted)["cinder"]["catalog_info"] == "volumev3::internalURL"
    assert haproxy.api_ports(wanted)["cinder"] == 8777
    assert uwsgi_files(wanted)["cinder-api"]["uwsgi"]["http-socket"] == "127.0.0.1:8777"


def test_its_file_names_our_driver_and_its_own_account():
    ini = cinder_conf(settings(WANTED, "volumes.store=/srv/volumes"))
    backend = ini[ini["DEFAULT"]["enabled_backends"]]
    assert backend["volume_driver"] == "dockstack.volume.file.FileDriver"
    assert backend["file_pool"] == "/srv/volumes"
    assert ini["service_user"]["send_service_user_token"] == "true"
    assert ini["keystone_authtoken"]["service_token_roles_required"] == "true"
    assert "cinder:secret-cinder_database_password@" in ini["database"]["connection"]
    passwords = {section["password"] for section in ini.values() if "password" in section}
    assert passwords == {"secret-cinder_password"}


def test_the_default_type_is_made_and_is_of_the_backend():
    wanted = settings(WANTED)
    types = {each["name"]: each["extra_specs"] for each in desired_state.volume_types(wanted)["volume_types"]}
    ini = cinder_conf(wanted)
    backend = ini[ini["DEFAULT"]["enabled_backends"]]["volume_backend_name"]
    assert ini["DEFAULT"]["default_volume_type"] in types
    assert {specs["volume_backend_name"] for specs in types.values()} == {backend}


def test_its_account_and_address_are_in_the_catalogue():
    desired = desired_state.volumes(settings(WANTED))
    assert desired["accounts"] == {"cinder": "secret-cinder_password"}
    url = "http://127.0.0.1:8776/v3"
    assert desired["services"] == [{"name": "cinder", "type": "block-storage", "url": url}]


def test_its_services_need_no_root_but_os_bricks_helper():
    found = programs.cinder(settings(WANTED))
    assert [service.name for service in found] == list(recipe.SERVICES)
    assert {service.user for service in found} == {"cinder"}
    rule = sudoers(settings(WANTED), "cinder")
    assert "rootwrap" not in rule
    (line,) = (line for line in rule.splitlines() if line.startswith("cinder "))
    pattern = re.search(r"\^(.*)\$", line)[1]
    context = "--config-file /etc/cinder/cinder.conf --privsep_context {} --privsep_sock_path /tmp/a/b.sock"
    assert re.fullmatch(pattern, context.format("os_brick.privileged.default"))
    assert not re.fullmatch(pattern, context.format("cinder.privsep.sys_admin_pctxt"))


def test_images_are_looked_at_without_root_and_within_limits():
    """cinder-volume parses what strangers wrote: by its own user's programs, and by a helper that has no rights."""
    service = next(each for each in programs.cinder(settings(WANTED)) if each.name == "cinder-volume")
    script = "/opt/dockstack/libexec/cinder_volume.py"
    assert service.command[1:] == (script, "--config-file", CONF)
    assert script in service.watch
    section = cinder_conf(settings(WANTED))["cinder_sys_admin"]
    assert section["capabilities"] == ""
    assert re.fullmatch(r"/usr/bin/prlimit --data=\d+ \S+/privsep-helper --config-file \S+", section["helper_command"])


def test_the_pool_is_mounted_before_cinder_volume_starts():
    attributes = load(None, [WANTED, "volumes.storage_gb=7"]).local.attributes
    volume = recipe.pool(attributes)
    assert (volume.size_gb, volume.mount_point) == (7, "/var/lib/cinder/volumes")
    line = storage.with_entry("", volume).splitlines()[-1]
    assert line.startswith("/var/lib/cinder/volumes.img /var/lib/cinder/volumes xfs loop,defaults,")
    assert "prjquota" not in line, "no engine uses it, and not every kernel has quotas"
    assert "x-systemd.before=dockstack-cinder-volume.service" in line
    assert "x-systemd.required-by=dockstack-cinder-volume.service" in line
    assert recipe.pool(load(None, [WANTED, "volumes.storage=directory"]).local.attributes) is None


def test_the_pool_is_mounted_before_any_nova_compute_resumes_servers():
    """One that cannot be mounted keeps servers with volumes from starting, and no nova-compute."""
    line = storage.with_entry("", recipe.pool(load(None, [WANTED, "hosts=2"]).local.attributes)).splitlines()[-1]
    for unit in ("dockstack-nova-compute.service", "dockstack-host2-nova-compute.service"):
        assert f"x-systemd.wanted-by={unit},x-systemd.before={unit}" in line
        assert f"required-by={unit}" not in line


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_nova_compute_mounts_the_pool_also_when_volumes_were_disabled(machine, wanted):
    one = machine({}, f"volumes.enable={wanted}")
    compute = Service(name="nova-compute", command=("nova-compute",))
    assert recipe.after_pool(one, compute) == compute
    one.manifest.made(recipe.VOLUME_POOL, "/var/lib/cinder/volumes")
    (line,) = recipe.after_pool(one, compute).prepare
    assert line == ("sh", "-c", "mountpoint -q /var/lib/cinder/volumes || mount /var/lib/cinder/volumes || true")
    (line,) = recipe.after_pool(one, compute, "host2").prepare
    assert line[-3:-1] == ("sh", "-c")
    assert "--mount=/run/dockstack/hosts/host2.mnt" in line


def test_its_volume_service_mounts_it_without_systemd(machine):
    one = machine({"hostname": "node1\nsystem"}, WANTED)
    prepared = {service.name: service.prepare for service in recipe.services(one)}
    assert [name for name, prepare in prepared.items() if prepare] == ["cinder-volume"]
    assert "mount /var/lib/cinder/volumes" in prepared["cinder-volume"][0][-1]


def test_what_it_writes_only_it_can_read(machine):
    one = machine({"hostname": "node1\nsystem"}, WANTED, "volumes.storage=directory")
    recipe.configure(one)
    made = [line for line in one.commands if "mkdir -p" in line]
    for path in ("/var/lib/cinder/volumes", "/var/lib/cinder/backups", "/var/lib/cinder/conversion"):
        (line,) = (each for each in made if f"mkdir -p -- {path} " in each)
        assert "chown cinder:cinder . && chmod 700 ." in line
    assert one.manifest.ours("file", CONF)
    assert one.manifest.ours("file", "/opt/dockstack/libexec/cinder_volume.py"), "what cinder-volume is run by"


def test_disabling_takes_services_and_passwords_away_and_leaves_volumes(machine):
    one = machine({"hostname": "node1\nsystem"}, WANTED)
    former = [Service(name=name, command=(name,)) for name in ("cinder-scheduler", "cinder-backup")]
    for service in (*recipe.services(one), *former):
        one.records.define(service)
    recipe.stop(one)
    assert not one.records.services()
    removed = [line for line in one.commands if line.startswith("rm ")]
    for path in (CONF, "/etc/cinder/api-paste.ini", "/etc/cinder/resource_filters.json"):
        assert any(path in line for line in removed)
    assert not any("/var/lib/cinder" in line for line in one.commands)


def test_what_ran_on_its_own_before_is_ended_when_cinder_starts(machine, monkeypatch):
    one = machine({"hostname": "node1\nsystem"}, WANTED)
    one.records.define(Service(name="cinder-backup", command=("cinder-backup",)))
    monkeypatch.setattr(recipe, "ensure_running", lambda _machine, service: one.records.define(service))
    recipe.start(one)
    assert {service.name for service in one.records.services()} == set(recipe.SERVICES)


def test_clean_takes_the_pool_away(machine):
    one = machine({})
    one.manifest.made(recipe.VOLUME_POOL, "/var/lib/cinder/volumes")
    teardown._remove(one, one.manifest.entries(), teardown._AFTERWARDS)
    assert any("umount /var/lib/cinder/volumes" in line for line in one.commands)
    assert any(line.startswith("rm -f /var/lib/cinder/volumes.img") for line in one.commands)


def test_over_tls_it_trusts_the_cloud_s_authority():
    ini = cinder_conf(replace(settings(WANTED), tls=True))
    assert ini["DEFAULT"]["glance_ca_certificates_file"] == "/etc/dockstack/tls/authority.pem"
    assert all(ini[section]["cafile"] for section in ("keystone_authtoken", "service_user", "nova"))
