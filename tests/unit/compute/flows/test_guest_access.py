# SPDX-License-Identifier: Apache-2.0
"""Who gets a key, a password or a file from the driver, and when."""

from __future__ import annotations

import json
import logging

import pytest
from fake_flows import UUID, make_host, make_server, no_events

from dockstack.compute.containers.properties import PropertyError
from dockstack.compute.engine import Conflict
from dockstack.compute.flows import guest_access, lifecycle
from dockstack.compute.flows.guest_access import PasswordRefused
from dockstack.compute.model import Image, InjectedFile
from fake_host import image_archive

pytestmark = pytest.mark.unit

KEY = "ssh-ed25519 AAAA me"
PASSWD = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv/app:/bin/sh\n"
INIT = {"docker_command": '["/sbin/init"]', "docker_entrypoint": "[]"}
ROOTS, APPS = "/root/.ssh/authorized_keys", "/srv/app/.ssh/authorized_keys"


def boot(world, host, properties=None, **changes):
    image = Image(id="8f6d1f3e-0000-4000-8000-000000000000", name="n", properties=properties or {})
    server = make_server(image=image, **changes)
    lifecycle.spawn(host, server, no_events)
    return server


def keys(world) -> dict[str, bytes]:
    return {path: data for path, data in world.placed.items() if path.endswith("authorized_keys")}


def test_any_image_gets_the_key_before_its_first_process(world, host):
    world.inside["/etc/passwd"] = PASSWD
    boot(world, host, key_data=KEY)

    assert keys(world) == {ROOTS: f"{KEY}\n".encode()}
    assert world.calls.index("create") < world.calls.index("put_archive") < world.calls.index("start")


def test_an_image_without_users_has_a_root_all_the_same(world, host):
    boot(world, host, key_data=KEY)
    assert list(keys(world)) == [ROOTS]


def test_the_images_own_user_gets_the_key_too(world, host):
    world.inside |= {"/etc/passwd": PASSWD, APPS: b"ssh-rsa OLD\n"}
    boot(world, host, {"docker_user": "1000"}, key_data=KEY)
    assert keys(world) == {ROOTS: f"{KEY}\n".encode(), APPS: f"ssh-rsa OLD\n{KEY}\n".encode()}


def test_an_agent_that_an_init_runs_is_left_to_do_it(world, host):
    world.inside["/usr/bin/cloud-init"] = b""
    boot(world, host, INIT, key_data=KEY)
    assert keys(world) == {}


def test_an_agent_that_nothing_runs_does_nothing(world, host):
    world.inside["/usr/bin/cloud-init"] = b""
    boot(world, host, key_data=KEY)
    assert list(keys(world)) == [ROOTS]


@pytest.mark.parametrize(("choice", "placed"), [("always", [ROOTS]), ("never", []), ("auto", [])])
def test_the_image_or_the_operator_may_say_otherwise(world, host, choice, placed):
    world.inside["/usr/bin/cloud-init"] = b""
    boot(world, host, INIT | {"docker_inject_key": choice}, key_data=KEY)
    assert list(keys(world)) == placed


def test_a_wrong_word_is_refused_before_anything_is_made(world, host):
    with pytest.raises(PropertyError, match="docker_inject_key is 'perhaps', not one of auto, always, never"):
        boot(world, host, {"docker_inject_key": "perhaps"}, key_data=KEY)
    assert "create" not in world.calls


def test_without_a_key_nothing_is_looked_at(world, host):
    boot(world, host)
    assert not {"has_path", "read_file", "put_archive"} & set(world.calls)


@pytest.mark.parametrize("properties", [INIT, {"docker_inject_password": "always"}])
def test_an_image_is_looked_into_once(world, host, properties):
    world.inside["/etc/shadow"] = b"root:*:1::::::\n"
    boot(world, host, properties, key_data=KEY, admin_password="a")
    placed = world.placed.copy()
    world.calls.clear()
    boot(world, host, properties, key_data=KEY, admin_password="b", uuid="1fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11")
    assert not {"has_path", "read_file"} & set(world.calls)
    assert world.placed.keys() == placed.keys()


def test_a_reboot_leaves_a_users_keys_alone(world, host):
    server = boot(world, host, key_data=KEY)
    world.placed.clear()
    lifecycle.reboot(host, server, hard=True)
    assert world.placed == {}


def test_files_are_placed(world, host):
    boot(world, host, files=(InjectedFile("/etc/motd", b"hello"), InjectedFile("x/y", b"")))
    assert world.placed == {"/etc/motd": b"hello", "/x/y": b""}


def test_files_and_keys_reach_declared_volumes(world):
    host = make_host(world, download=lambda _image: iter([image_archive(Volumes={"/data": {}, "/root": {}})]))
    boot(world, host, files=(InjectedFile("/data/x", b"mine"),), key_data=KEY)
    assert world.placed["/data/x"] == b"mine"
    assert keys(world) == {"/root/.ssh/authorized_keys": f"{KEY}\n".encode()}


def test_a_new_server_has_its_password_if_the_image_names_who_gets_it(world, host):
    world.inside["/etc/shadow"] = b"root:*:1:::::::\napp:!:1:::::::\n"
    boot(world, host, {"os_admin_user": "app"}, admin_password="secret")
    root, app = world.placed["/etc/shadow"].decode().splitlines()
    assert root == "root:*:1:::::::"
    assert app.startswith("app:$6$")
    assert b"secret" not in world.placed["/etc/shadow"]


@pytest.mark.parametrize(("choice", "placed"), [("always", True), ("never", False), ("auto", False)])
def test_roots_password_only_if_somebody_says_so(world, host, choice, placed):
    world.inside["/etc/shadow"] = b"root:*:1:::::::\n"
    boot(world, host, {"docker_inject_password": choice}, admin_password="secret")
    assert ("/etc/shadow" in world.placed) is placed


def test_an_image_without_passwords_boots_without(world, host, caplog):
    boot(world, host, {"docker_inject_password": "always"}, admin_password="secret")
    assert world.placed == {}
    assert "gets no password" in caplog.text
    assert "secret" not in caplog.text


def test_a_running_servers_chpasswd_gets_a_hash_on_its_standard_input(world, host, caplog):
    caplog.set_level(logging.DEBUG)
    server = boot(world, host)
    guest_access.set_password(host, server, "root", "secret")

    ((command, stdin),) = world.executed
    assert command == ["chpasswd", "-e"]
    assert stdin.startswith(b"root:$6$")
    assert b"secret" not in stdin
    assert "secret" not in caplog.text + json.dumps(world.calls)


def test_without_chpasswd_the_file_is_written(world, host):
    world.inside["/etc/shadow"] = b"root:*:1:::::::\n"
    server = boot(world, host)
    world.exit_code = 127
    guest_access.set_password(host, server, "root", "secret")
    assert world.placed["/etc/shadow"].startswith(b"root:$6$")


def test_a_user_who_is_not_there_is_refused(world, host):
    world.inside["/etc/shadow"] = b"root:*:1:::::::\n"
    server = boot(world, host)
    world.exit_code = 1
    with pytest.raises(PasswordRefused, match="has no user 'nobody' with a password"):
        guest_access.set_password(host, server, "nobody", "secret")
    assert world.placed == {}


def test_a_stopped_server_cannot_change_its_password(world, host):
    server = boot(world, host)
    lifecycle.stop(host, server, 0)
    with pytest.raises(Conflict):
        guest_access.set_password(host, server, "root", "secret")
    assert UUID in server.container_name
