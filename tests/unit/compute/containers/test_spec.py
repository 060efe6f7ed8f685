# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sample_server
from dockstack import names
from dockstack.compute.containers import spec
from dockstack.compute.engine import ContainerSpec
from dockstack.compute.model import Address, Confinement, Port, Route, Server
from dockstack.errors import DockstackError
from dockstack.oci.process import ImageConfig

pytestmark = pytest.mark.unit

PORT = Port(
    id="11111111-1111-1111-1111-111111111111",
    mac="fa:16:3e:00:00:01",
    device="tap11111111-11",
    interface="eth0",
    network_id="n",
    mtu=1442,
    addresses=(Address("10.0.0.5/24", "10.0.0.1"), Address("fd00::5/64")),
    routes=(Route("10.1.0.0/16", "10.0.0.9"),),
    dns=("9.9.9.9",),
)
SERVER = replace(
    sample_server.SERVER,
    ports=(PORT, replace(PORT, id="x", interface="eth1", addresses=(), dns=("9.9.9.9", "1.1.1.1"))),
)
CONFIG = ImageConfig(
    env={"PATH": "/bin", "A": "1"}, command=("run",), entrypoint=("/entry",), user="7", working_directory="/w",
    stop_signal="SIGQUIT", volumes=("/data",), healthcheck={"Test": ["CMD", "x"]},
)  # fmt: skip


def build(server: Server = SERVER, config: ImageConfig = CONFIG) -> ContainerSpec:
    return spec.build_spec(server, "sha256:1", config, host="node")


def with_properties(**properties: str) -> Server:
    return replace(SERVER, image=replace(SERVER.image, properties=properties))


def test_the_whole() -> None:
    assert build() == ContainerSpec(
        image="sha256:1",
        hostname="web",
        runtime="dockstack",
        labels=spec.labels(SERVER, CONFIG, "node"),
        limits={
            "Memory": 64 << 20,
            "MemorySwap": 64 << 20,
            "CpuPeriod": 100_000,
            "CpuQuota": 200_000,
            "CpuShares": 2048,
            "PidsLimit": 4096,
            "Ulimits": [{"Name": "nofile", "Soft": 512, "Hard": 512}],
        },
        command=("run",),
        entrypoint=("/entry",),
        environment=("PATH=/bin", "A=1"),
        user="7",
        working_directory="/w",
        stop_signal="SIGQUIT",
        stop_timeout=30,
        mounts=({"Type": "tmpfs", "Target": "/data", "TmpfsOptions": {"SizeBytes": 4097}},),
        capabilities=spec.CAPABILITIES,
        log_max_size="5m",
        log_max_files=2,
    )


def test_labels_hold_what_a_restart_needs() -> None:
    labels = spec.labels(SERVER, CONFIG, "node")
    prefix = "org.openstack.nova."
    expected = {
        "version": "1", "uuid": SERVER.uuid, "name": "web", "hostname": "web", "project": "p", "user": "u",
        "flavor": "m1.tiny", "image": "i", "host": "node", "volumes": '["/data"]',
    }  # fmt: skip
    assert {key: labels[prefix + key] for key in expected} == expected


@given(st.text())
def test_any_name_can_be_a_label(name) -> None:
    labels = spec.labels(replace(SERVER, name=name), CONFIG, "node")
    labels["org.openstack.nova.name"].encode()
    json.dumps(labels)


@pytest.mark.parametrize(
    ("properties", "entrypoint", "command"),
    [
        ({}, ("/entry",), ("run",)),
        ({"os_command_line": "sh -c 'a b'"}, ("/entry",), ("sh", "-c", "a b")),
        ({"docker_command": '["x"]', "os_command_line": "y"}, ("/entry",), ("x",)),
        ({"docker_entrypoint": '["/e"]'}, ("/e",), ()),
        ({"docker_entrypoint": '["/e"]', "docker_command": '["c"]'}, ("/e",), ("c",)),
        ({"docker_entrypoint": "[]", "docker_command": '["c"]'}, (), ("c",)),
    ],
)
def test_process(properties, entrypoint, command) -> None:
    built = build(with_properties(**properties))
    assert (built.entrypoint, built.command) == (entrypoint, command)


def test_no_image_or_tenant_decides_about_privileges() -> None:
    wished = dict.fromkeys(("docker_no_new_privileges", "docker:no_new_privileges", "no_new_privileges"), "true")
    assert not build(replace(with_properties(**wished), metadata=wished)).no_new_privileges
    assert build(replace(SERVER, confinement=Confinement(no_new_privileges=True))).no_new_privileges
    words = ("privileged", "cap_add", "devices", "runtime", "seccomp")
    wished = {f"docker{mark}{word}": "ALL" for mark in "_:" for word in words}
    assert replace(build(replace(with_properties(**wished), metadata=wished))) == build()


def test_a_flavor_decides_about_privileges() -> None:
    opened = Confinement(
        privileged=True, cap_add=("SYS_ADMIN", "CHOWN"), cap_drop=("NET_RAW",), devices=("/dev/fuse",), runtime="other"
    )
    built = build(replace(SERVER, confinement=opened))
    assert (built.privileged, built.devices, built.runtime) == (True, ("/dev/fuse",), "other")
    assert set(built.capabilities) == {*spec.CAPABILITIES, "SYS_ADMIN"} - {"NET_RAW"}
    assert built.body()["HostConfig"]["Devices"] == [
        {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"}
    ]


def test_metadata_wins_over_properties() -> None:
    server = replace(
        with_properties(docker_env='{"A": "2", "B": "3"}', docker_env_C="4", docker_user="8", docker_tty="no"),
        metadata={"docker_env_A": "5", "docker_user": "9", "docker_tty": "True"},
    )
    built = build(server)
    assert built.environment == ("PATH=/bin", "A=5", "B=3", "C=4")
    assert built.user == "9"
    assert built.tty


def test_cloud_init_under_an_init_finds_out_where_it_is() -> None:
    assert "product_name=OpenStack Nova" not in build().environment
    built = build(with_properties(docker_command='["/sbin/init"]', docker_entrypoint="[]"))
    assert built.environment[0] == "product_name=OpenStack Nova"


SECOND = 10**9


def check(test: list[str], interval: int = 30, timeout: int = 30, retries: int = 3) -> dict:
    seconds = {"Interval": interval * SECOND, "Timeout": timeout * SECOND, "StartInterval": interval * SECOND}
    return {"Test": test, "Retries": retries, "StartPeriod": SECOND // 1000, **seconds}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", {"Test": ["NONE"]}),
        ('{"Test": ["NONE"], "Interval": 1}', {"Test": ["NONE"]}),
        ("image", check(["CMD", "x"])),
        ('{"Test": ["CMD-SHELL", "true"], "Interval": 60000000000}', check(["CMD-SHELL", "true"], 60)),
        ('{"Test": ["CMD", "x"], "Interval": 10000000000, "Timeout": 0, "Retries": 7}', check(["CMD", "x"], 10, 30, 7)),
    ],
)
def test_health_checks(text, expected) -> None:
    assert build(with_properties(docker_healthcheck=text)).healthcheck == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "yes",
        '{"Test": "x"}',
        '{"Test": ["x"]}',
        '{"Test": ["CMD"]}',
        '{"Test": ["CMD", "x"], "Interval": "5s"}',
        '{"Test": ["CMD", "x"], "Interval": -1}',
        '{"Test": ["CMD", "x"], "Interval": 1e10}',
        '{"Test": ["CMD", "x"], "Interval": true}',
        '{"Test": ["CMD", "x"], "X": 1}',
        '{"Test": ["CMD", "' + "x" * 4096 + '"]}',
        '{"Test": ["CMD", "x"], "Interval": ' + "9" * 4301 + "}",
        "[" * 100_000,
    ],
)
def test_what_is_no_health_check(text) -> None:
    with pytest.raises(DockstackError, match="docker_healthcheck is neither none, image nor"):
        build(with_properties(docker_healthcheck=text))


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"Interval": 1_000_000}, "asks for less than the Interval of 10000000000"),
        ({"Interval": 9_999_999_999}, "asks for less than the Interval"),
        ({"Interval": 10**30}, "asks for more than the Interval"),
        ({"Timeout": 10**4000}, "asks for more than the Timeout"),
        ({"StartPeriod": 10**18}, "asks for more than the StartPeriod"),
        ({"Retries": 2**31}, "asks for more than the Retries of 1000"),
    ],
)
def test_health_checks_cost_the_host_no_more_than_allowed(members, problem) -> None:
    with pytest.raises(DockstackError, match=problem):
        build(with_properties(docker_healthcheck=json.dumps({"Test": ["CMD", "x"], **members})))


def test_an_images_own_health_check_is_made_as_often_as_it_may_be() -> None:
    eager = {"Test": ["CMD", "x"], "Interval": 1_000_000, "StartInterval": 1, "StartPeriod": 10**18, "Retries": 10**9}
    built = build(with_properties(docker_healthcheck="image"), replace(CONFIG, healthcheck=eager))
    wanted = check(["CMD", "x"], 10, retries=1000) | {"StartPeriod": 86_400 * SECOND}
    assert built.healthcheck == wanted
    slow = spec.build_spec(
        with_properties(docker_healthcheck="image"),
        "i",
        replace(CONFIG, healthcheck=eager),
        host="n",
        least_interval=60,
    )
    assert slow.healthcheck["Interval"] == slow.healthcheck["StartInterval"] == 60 * SECOND


@pytest.mark.parametrize("found", [{"Test": "x"}, {"Test": [1]}, {"Test": ["CMD", "x"], "Interval": "often"}])
def test_an_images_own_health_check_may_be_none(found) -> None:
    with pytest.raises(DockstackError, match="docker_healthcheck is image, and what the image says is no health check"):
        build(with_properties(docker_healthcheck="image"), replace(CONFIG, healthcheck=found))
    assert build(SERVER, replace(CONFIG, healthcheck=found)).healthcheck == {"Test": ["NONE"]}


def test_nothing_of_an_images_health_check_shows_through() -> None:
    """The engine takes from the image what is missing or 0."""
    asked = build(with_properties(docker_healthcheck='{"Test": ["CMD", "x"], "Interval": 0, "StartPeriod": 0}'))
    assert all(asked.healthcheck[name] for name in ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"))


def test_settings() -> None:
    built = build(
        with_properties(
            docker_workdir="/x",
            docker_stop_signal="SIGRTMIN+3",
            docker_stop_timeout="7",
            docker_init="1",
            docker_hostname="other.example.org",
        )
    )
    assert built.working_directory == "/x"
    assert built.stop_signal == "SIGRTMIN+3"
    assert built.stop_timeout == 7
    assert built.init
    assert built.hostname == "other.example.org"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("docker_command", "not json"),
        ("docker_command", '"a string"'),
        ("docker_command", "[1]"),
        ("docker_command", '{"a": "b"}'),
        ("docker_command", '["a\\u0000b"]'),
        ("docker_entrypoint", "null"),
        ("docker_env", '["A=1"]'),
        ("docker_env", '{"A": 1}'),
        ("docker_env", '{"": "x"}'),
        ("docker_env", '{"A=B": "x"}'),
        ("docker_workdir", "relative"),
        ("docker_stop_signal", "TERM; rm"),
        ("docker_stop_timeout", "-1"),
        ("docker_stop_timeout", "soon"),
        ("docker_stop_timeout", "3601"),
        ("docker_stop_timeout", "9" * 4301),
        ("docker_stop_signal", "SIGRTMIN-40"),
        ("docker_stop_signal", "SIGRTMAX+1"),
        ("docker_stop_signal", "SIGNOTHING"),
        ("docker_stop_signal", "A" * 65_535),
        ("docker_stop_signal", "99"),
        ("docker_crash_signal", "SIGRTMIN-40"),
        ("docker_crash_signal", "0"),
        ("docker_command", "[" * 65_535),
        ("docker_console_command", "[]"),
        ("docker_console_command", '["' + "x" * 4096 + '"]'),
        ("docker_user", "root\nforged"),
        ("docker_user", "u" * 256),
        ("docker_workdir", "/" + "x" * 4096),
        ("docker_env", '{"A": "\\ud800"}'),
        ("docker_init", "maybe"),
        ("docker_hostname", "-x"),
        ("docker_hostname", "a b"),
        ("os_command_line", "'unbalanced"),
    ],
)
def test_bad_properties_are_named(name, value) -> None:
    with pytest.raises(DockstackError, match=f"The property {name} .*Correct {name}"):
        build(with_properties(**{name: value}))


@pytest.mark.parametrize(
    ("field", "override", "config"),
    [
        ("User", "docker_user", ImageConfig(command=("x",), user="a\nb")),
        ("User", "docker_user", ImageConfig(command=("x",), user="u" * 256)),
        ("WorkingDir", "docker_workdir", ImageConfig(command=("x",), working_directory="srv/app")),
        ("WorkingDir", "docker_workdir", ImageConfig(command=("x",), working_directory="/a\0")),
        ("Env", "docker_env_A", ImageConfig(command=("x",), env={"A": "\0"})),
    ],
)
def test_what_an_image_says_wrong_itself_is_named_as_its_own(field, override, config) -> None:
    with pytest.raises(DockstackError, match=f"field {field} of the image's own configuration .*set {override}"):
        build(config=config)
    value = "/srv" if field == "WorkingDir" else "5"
    assert build(with_properties(**{override: value}), config)


@pytest.mark.parametrize(
    ("said", "signal"),
    [
        *[("sigquit", "SIGQUIT"), ("Quit", "QUIT"), ("3", "3"), ("rtmin+3", "RTMIN+3"), ("SIGRTMIN+3", "SIGRTMIN+3")],
        *[("SIGRTMAX-2", "SIGRTMAX-2"), ("SIGRTMIN+20", "54"), ("SIGRTMAX-20", "44")],
        *[("SIGNOTHING", "SIGTERM"), ("TERM; rm", "SIGTERM"), ("0", "SIGTERM"), ("", None)],
    ],
)
def test_an_image_s_stop_signal_is_spelled_as_engines_take_it(said, signal) -> None:
    assert build(config=ImageConfig(command=("x",), stop_signal=said or None)).stop_signal == signal


@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        ("café-1", "caf-1"),
        ("ß", f"server-{SERVER.uuid}"),
        ("-é.x.", "x"),
        ("web", "web"),
        ("", f"server-{SERVER.uuid}"),
    ],
)
def test_a_server_s_name_may_have_letters_that_no_host_name_has(name, hostname) -> None:
    server = replace(SERVER, hostname=name)
    assert build(server).hostname == hostname
    assert f"10.0.0.5\t{hostname}\n" in spec.build_patch(server, CONFIG).contents["/etc/hosts"]


def test_an_image_that_says_nothing_is_refused() -> None:
    with pytest.raises(DockstackError, match=r"does not say what to run.*docker_command"):
        build(config=ImageConfig())


@pytest.mark.parametrize(
    ("command", "tmpfs"),
    [
        *[("/sbin/init", {"/run"}), ("/usr/lib/systemd/systemd", {"/run"}), ("/bin/x", set())],
        *[("/init", set()), ("/bin/s6-svscan", set())],  # made for containers, whose /run no engine touches
    ],
)
def test_an_init_gets_an_empty_run_that_programs_run_from(command, tmpfs) -> None:
    found = build(config=ImageConfig(command=(command,))).tmpfs
    assert set(found) == tmpfs
    assert all("exec" in options.split(",") and "noexec" not in options for options in found.values())


@pytest.mark.parametrize(
    ("init", "signal", "tty"), [("systemd", "SIGRTMIN+3", True), ("busybox", "SIGUSR2", True), ("", None, False)]
)
def test_an_init_that_is_known_gets_what_it_needs(init, signal, tty) -> None:
    config = ImageConfig(command=("/sbin/init",), init=init)
    found = build(config=config)
    assert (found.stop_signal, found.tty) == (signal, tty)
    assert found.labels[spec.INIT_LABEL] == init
    assert build(with_properties(docker_stop_signal="TERM", docker_tty="false"), config).stop_signal == "TERM"
    assert not build(with_properties(docker_tty="false"), config).tty
    assert build(config=replace(config, stop_signal="SIGPWR")).stop_signal == "SIGPWR"
    patch = spec.build_patch(SERVER, config)
    assert patch.own_groups == (init == "systemd")
    assert patch.environment.get("container_uuid") == (SERVER.uuid if init == "systemd" else None)


@pytest.mark.parametrize(
    ("program", "may"), [("/sbin/init", True), ("/bin/sh", False), ("/init", False), ("/bin/s6-svscan", False)]
)
def test_the_init_of_a_system_alone_may_reboot_it(program, may) -> None:
    assert ("SYS_BOOT" in build(config=ImageConfig(command=(program,))).capabilities) == may
    kept = replace(SERVER, confinement=Confinement(cap_drop=("SYS_BOOT",)))
    assert "SYS_BOOT" not in build(kept, ImageConfig(command=(program,))).capabilities


@pytest.mark.parametrize(
    ("dns", "others", "written"),
    [
        (("9.9.9.9",), ("1.1.1.1",), "nameserver 9.9.9.9\n"),
        ((), ("1.1.1.1", "2::1"), "nameserver 1.1.1.1\nnameserver 2::1\n"),
        (("0.0.0.0",), ("1.1.1.1",), "# Its subnets name no DNS server.\n"),
        ((), (), "# Its subnets name no DNS server.\n"),
    ],
)
def test_a_subnet_without_name_servers_has_those_of_the_cloud(dns, others, written) -> None:
    server = replace(SERVER, ports=(replace(PORT, dns=dns),))
    assert spec.build_patch(server, CONFIG, resolvers=others).contents["/etc/resolv.conf"] == written


def test_a_long_host_name_is_cut_where_the_kernel_takes_it() -> None:
    assert build(replace(SERVER, hostname="a" * 63 + ".b")).hostname == "a" * 63


def test_nothing_dangerous_is_granted() -> None:
    dangerous = {
        "SYS_ADMIN",
        "NET_ADMIN",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_PTRACE",
        "MKNOD",
        "SYS_BOOT",
        "DAC_READ_SEARCH",
    }
    assert not dangerous & set(spec.CAPABILITIES)


def test_patch_joins_the_namespace_and_keeps_volumes_at_home() -> None:
    patch = spec.build_patch(SERVER, CONFIG)
    assert (patch.netns, patch.drop_mounts) == (f"/run/netns/nova-{SERVER.uuid}", ("/data",))


def test_half_of_the_memory_may_be_shared() -> None:
    assert spec.build_patch(SERVER, CONFIG).shm_bytes == 32 << 20
    grown = replace(SERVER, limits=replace(SERVER.limits, memory_mb=1025))
    assert spec.build_patch(grown, CONFIG).shm_bytes == 1025 << 19


def test_patch_says_what_the_servers_ports_are() -> None:
    patch = spec.build_patch(SERVER, CONFIG)
    assert patch.interfaces == {port.device: port.interface for port in SERVER.ports}
    assert patch.contents["/etc/hosts"].startswith("127.0.0.1\tlocalhost\n")
    assert patch.contents["/etc/hosts"].endswith("10.0.0.5\tweb\nfd00::5\tweb\n# End.\n")
    assert patch.contents["/etc/resolv.conf"] == "nameserver 9.9.9.9\nnameserver 1.1.1.1\n"


def test_a_server_never_gets_the_hosts_resolvers() -> None:
    patch = spec.build_patch(replace(SERVER, ports=()), CONFIG)
    assert patch.contents["/etc/resolv.conf"] == "# Its subnets name no DNS server.\n"


def test_no_label_of_ours_can_be_an_image_s():
    """An image's labels show through where a container has none of that name: it could pass for one that was sent."""
    ours = {value for name, value in vars(names).items() if name.endswith("_LABEL") and isinstance(value, str)}
    set_elsewhere = {names.REQUEST_LABEL, names.SPARSE_LABEL}  # by each create; by snapshots, and meant to show through
    assert ours - set_elsewhere <= spec.labels(SERVER, ImageConfig(), "node").keys()
