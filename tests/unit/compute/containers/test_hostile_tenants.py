# SPDX-License-Identifier: Apache-2.0
"""Only a flavor opens anything: whatever image properties, metadata and an image's own configuration say.

The properties are found in the code, so that a new one is walked, too.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dockstack.compute
from dockstack.compute.containers import spec
from dockstack.compute.containers.volumes import COVER_BYTES
from dockstack.compute.flows.guest_access import ALWAYS, AUTO, NEVER
from dockstack.errors import DockstackError
from dockstack.oci.process import ImageConfig
from sample_server import SERVER

pytestmark = pytest.mark.unit

SOURCES = Path(dockstack.compute.__file__).parent
DOCUMENTATION = Path(__file__).resolve().parents[4] / "docs"
PROPERTY = re.compile(r"docker_[a-z]+(_[a-z]+)*_?|os_(command_line|admin_user)")
# What the code has under such a name, and no tenant writes: Nova's own notes of a server
NOVAS = {"docker_suspended_memory_lost"}
CHOICES = {"docker_inject_key", "docker_inject_password"}

CONFIG = ImageConfig(env={"PATH": "/bin"}, command=("run",), healthcheck={"Test": ["CMD", "x"], "Interval": 1})

# What a tenant may decide, in the engine's words; all else must be what it is without a word of his.
OPEN = {"Hostname", "Env", "Entrypoint", "Cmd", "User", "WorkingDir", "Tty", "OpenStdin", "StopSignal", "StopTimeout"}
OPEN |= {"Healthcheck", "Labels"}
OPEN_ON_THE_HOST = {"Init", "Tmpfs"}
OPEN_LABELS = {"org.openstack.nova.console", "org.openstack.nova.crash_signal"}

HOSTILE = [
    "",
    " ",
    "0",
    "-1",
    "9" * 19,
    "9" * 4301,
    "1e400",
    "\u0663\u0664",  # digits, and not ASCII
    "true",
    "TRUE\n",
    "always",
    "\0",
    "a\0b",
    "two\nlines",
    "\x1b]0;title\x07\x1b[2J",
    "\u202egnp.exe",
    "\ud800",
    "ü" * 300,
    "x" * 65_535,
    "/",
    "/../../etc",
    "/proc/1/root",
    "C:\\",
    "SIGRTMIN-40",
    "SIGRTMIN+3",
    "SIGRTMAX-0",
    "99",
    "SIG" + "A" * 300,
    "host",
    "privileged",
    "unconfined",
    "none",
    "image",
    "[]",
    "{}",
    "null",
    "[" * 65_535,
    '{"a":' * 10_000,
    "[" + "1" * 4301 + "]",
    '["/bin/sh"]',
    '["/sbin/init"]',
    '["a\\u0000b"]',
    '["\\ud800"]',
    '{"Privileged": "true"}',
    '{"PATH": "/x", "LD_PRELOAD": "/y"}',
    '{"": "x"}',
    '{"A=B": "x"}',
    '{"Test": ["CMD", "x"], "Interval": 1000000}',
    '{"Test": ["CMD", "x"], "Interval": -1}',
    '{"Test": ["CMD", "x"], "Timeout": 1e999}',
    '{"Test": ["CMD", "x"], "Retries": NaN}',
    '{"Test": ["CMD", "x"], "StartInterval": 1}',
    '{"Test": ["CMD", "' + "y" * 60_000 + '"]}',
    "'unbalanced",
    "sh -c 'echo \"'\"'\"x\"'",
]  # fmt: skip


def properties() -> list[str]:
    """Find the names in the code by which it reads properties."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and PROPERTY.fullmatch(node.value):
                found.add(node.value)
    return sorted(found - NOVAS)


def build(properties: dict[str, str], metadata: dict[str, str], image: ImageConfig) -> dict[str, Any]:
    """Return what the engine is asked for, all that is read of a tenant's words on the way included."""
    server = replace(SERVER, image=replace(SERVER.image, properties=properties), metadata=metadata)
    for name in CHOICES:
        spec.choose(server, name, AUTO, (AUTO, ALWAYS, NEVER))
    built = spec.build_spec(server, "sha256:1", image, host="node")
    patch = spec.build_patch(server, image)
    assert patch == replace(spec.build_patch(SERVER, image))
    json.dumps(built.body(), ensure_ascii=False).encode()  # what the engine's client sends
    return built.body()


PLAIN = build({}, {}, CONFIG)


def opens_nothing(properties: dict[str, str], metadata: dict[str, str], image: ImageConfig = CONFIG) -> None:
    """Build a server and compare; a refusal is one of our own errors, in one printable line."""
    try:
        body = build(properties, metadata, image)
    except DockstackError as error:
        assert len(error.brief) < 1000  # noqa: PT017 - a refusal is as good
        assert error.brief.isprintable()  # noqa: PT017
        return
    assert body.keys() <= PLAIN.keys() | {"StopSignal"}
    for name in PLAIN.keys() - OPEN - {"HostConfig"}:
        assert body[name] == PLAIN[name], name
    host, plain = body["HostConfig"], PLAIN["HostConfig"]
    assert host.keys() == plain.keys()
    # who runs an init may reboot its own system, which opens nothing (docs/isolation.md)
    host = host | {"CapAdd": [name for name in host["CapAdd"] if name != spec.REBOOT]}
    for name in plain.keys() - OPEN_ON_THE_HOST:
        assert host[name] == plain[name], name
    assert host["Tmpfs"].keys() <= {"/run"}
    assert body["Labels"].keys() == PLAIN["Labels"].keys()
    assert {name for name, value in body["Labels"].items() if PLAIN["Labels"][name] != value} <= OPEN_LABELS
    bounded(body)


def bounded(body: dict[str, Any]) -> None:
    """What the engine keeps and does for a server has an end."""
    assert len(body["Hostname"]) <= 64
    assert 0 <= body["StopTimeout"] <= 3600
    assert len(body["User"]) <= 255
    assert len(body["WorkingDir"]) <= 4096
    assert sum(map(len, body["Labels"].values())) < 10_000
    assert sum(map(len, [*body["Env"], *body["Cmd"], *body["Entrypoint"]])) <= 1 << 20
    check = body["Healthcheck"]
    assert check == {"Test": ["NONE"]} or (
        check["Interval"] >= 10**10 and check["StartInterval"] >= 10**10 and check["Retries"] <= 1000
    )


def test_the_properties_are_found_and_documented() -> None:
    names = properties()
    assert {"docker_command", "docker_healthcheck", "docker_env_", "os_command_line"} <= set(names)
    assert "docker_volumes" not in names
    said = "".join(path.read_text() for path in DOCUMENTATION.rglob("*.md"))
    assert not [name for name in names if f"`{name}" not in said]


@pytest.mark.parametrize("name", properties())
def test_no_property_opens_anything(name) -> None:
    for one in [name + "X", name + "=", name + "\n"] if name.endswith("_") else [name]:
        for value in HOSTILE:
            opens_nothing({one: value}, {})
            opens_nothing({}, {one: value})
            opens_nothing({one: "x"}, {one: value})


@pytest.mark.parametrize(
    "name",
    [
        *("docker:privileged", "docker:cap_add", "docker:devices", "docker:runtime", "docker:no_new_privileges"),
        *("docker_privileged", "docker_volumes", "docker_runtime", "docker_binds", "quota:cpu_quota", "hw:cpu_policy"),
    ],
)
@pytest.mark.parametrize("value", ["true", "SYS_ADMIN", "/dev/sda", "runc", "anonymous", "host", "-1"])
def test_what_a_flavor_says_is_nothing_in_a_tenants_mouth(name, value) -> None:
    assert build({name: value}, {}, CONFIG) == PLAIN
    assert build({}, {name: value}, CONFIG) == PLAIN


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(properties()), st.text() | st.sampled_from(HOSTILE)), st.booleans())
def test_nor_do_several_together(chosen, on_the_image) -> None:
    opens_nothing(chosen, {}) if on_the_image else opens_nothing({}, chosen)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["Test", "Interval", "Timeout", "Retries", "StartPeriod", "X"]), JSON))
def test_an_images_own_words_open_nothing(found) -> None:
    opens_nothing({"docker_healthcheck": "image"}, {}, replace(CONFIG, healthcheck=found))
    opens_nothing({"docker_healthcheck": json.dumps(found)}, {})


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text(), st.text()),
    st.lists(st.text()),
    st.text(),
    st.text(),
    st.lists(st.text(alphabet="/.a\0é\ud800") | st.text()),
)
def test_an_images_process_is_data(environment, command, user, directory, declared) -> None:
    image = ImageConfig(
        env=environment,
        command=tuple(command),
        user=user,
        working_directory=directory,
        stop_signal=user or None,
        volumes=tuple(declared),
    )
    try:
        body = spec.build_spec(SERVER, "i", image, host="n").body()
    except DockstackError as error:
        assert error.brief.isprintable()  # noqa: PT017 - a refusal is as good
        return
    bounded(body)
    host = dict(body["HostConfig"])
    for mount in host.pop("Mounts"):
        assert mount["Type"] == "tmpfs"
        assert mount.get("TmpfsOptions", {"SizeBytes": COVER_BYTES}) == {"SizeBytes": COVER_BYTES}
        assert mount["Target"].startswith("/")
        assert mount["Target"] not in ("/", "/proc", "/sys", "/dev")
    plain = {name: value for name, value in PLAIN["HostConfig"].items() if name != "Mounts"}
    assert {**host, "Tmpfs": {}} == plain
