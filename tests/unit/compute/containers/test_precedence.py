# SPDX-License-Identifier: Apache-2.0
"""Each property that says how a server runs: its metadata wins over the image's property, and that over the image."""

from __future__ import annotations

from dataclasses import replace

import pytest

import sample_server
from dockstack.compute.containers import spec
from dockstack.oci.process import ImageConfig

pytestmark = pytest.mark.unit

SERVER = replace(sample_server.SERVER, name="named", hostname="named")
CHECK = {"Test": ["CMD", "/own"]}
IMAGE = ImageConfig(
    env={"A": "image", "B": "image"},
    command=("own",),
    entrypoint=("/own",),
    user="own",
    working_directory="/own",
    stop_signal="SIGQUIT",
    healthcheck=CHECK,
)


def environment(built):
    return dict(item.split("=", 1) for item in built.environment)


# property, what is read, the image's own, the value of a property and what comes of it, the metadata's and what of it
TABLE = [
    ("docker_command", lambda built: built.command, ("own",), '["p"]', ("p",), '["s", "x"]', ("s", "x")),
    ("os_command_line", lambda built: built.command, ("own",), "p 'q r'", ("p", "q r"), "s", ("s",)),
    ("docker_entrypoint", lambda built: built.entrypoint, ("/own",), '["/p"]', ("/p",), '["/s"]', ("/s",)),
    ("docker_env", lambda built: environment(built)["A"], "image", '{"A": "p"}', "p", '{"A": "s"}', "s"),
    ("docker_env_A", lambda built: environment(built)["A"], "image", "p", "p", "s", "s"),
    ("docker_user", lambda built: built.user, "own", "p", "p", "s", "s"),
    ("docker_workdir", lambda built: built.working_directory, "/own", "/p", "/p", "/s", "/s"),
    ("docker_hostname", lambda built: built.hostname, "named", "p", "p", "s", "s"),
    ("docker_stop_signal", lambda built: built.stop_signal, "SIGQUIT", "SIGINT", "SIGINT", "SIGHUP", "SIGHUP"),
    ("docker_stop_timeout", lambda built: built.stop_timeout, 30, "5", 5, "6", 6),
    ("docker_init", lambda built: built.init, False, "true", True, "false", False),
    ("docker_tty", lambda built: built.tty, False, "true", True, "false", False),
    ("docker_healthcheck", lambda built: built.healthcheck["Test"], ["NONE"], "image", CHECK["Test"], "none", ["NONE"]),
    ("docker_crash_signal", lambda built: built.labels["org.openstack.nova.crash_signal"], "SIGABRT", "SIGSEGV",
     "SIGSEGV", "SIGQUIT", "SIGQUIT"),
]  # fmt: skip


def build(properties, metadata):
    server = replace(SERVER, image=replace(SERVER.image, properties=properties), metadata=metadata)
    return spec.build_spec(server, "sha256:1", IMAGE, host="node")


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_metadata_over_property_over_image(row):
    name, read, own, of_property, by_property, of_server, by_server = row
    assert read(build({}, {})) == own
    assert read(build({name: of_property}, {})) == by_property
    assert read(build({}, {name: of_server})) == by_server
    assert read(build({name: of_property}, {name: of_server})) == by_server


def test_the_servers_word_counts_by_whichever_property_it_is_said():
    assert build({"docker_command": '["p"]'}, {"os_command_line": "s"}).command == ("s",)
    assert environment(build({"docker_env_A": "p"}, {"docker_env": '{"A": "s"}'}))["A"] == "s"


def test_on_one_level_the_more_exact_property_wins():
    said = {"docker_command": '["exact"]', "os_command_line": "line"}
    assert build(said, {}).command == ("exact",)
    assert build({}, said).command == ("exact",)
    assert environment(build({"docker_env": '{"A": "1"}', "docker_env_A": "2"}, {}))["A"] == "2"


def test_variables_add_up():
    found = environment(build({"docker_env": '{"B": "p", "C": "p"}'}, {"docker_env": '{"C": "s"}'}))
    assert (found["A"], found["B"], found["C"]) == ("image", "p", "s")
