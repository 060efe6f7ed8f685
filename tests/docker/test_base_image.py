# SPDX-License-Identifier: Apache-2.0
"""The base image as a server meets it: the driver's container, a metadata service, a login by ssh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from private_engine import wait_for

from dockstack.compute.guest.accounts import hash_password
from dockstack.compute.guest.injected_files import Entry, build_archive
from dockstack.compute.images.fetch import ImageStore
from dockstack.compute.model import Image
from dockstack.deploy.base_image import base
from dockstack.oci.normalise import ImageLimits

if TYPE_CHECKING:
    from pathlib import Path

GATEWAY = "10.77.0.1"
METADATA = """
import http.server, json, pathlib, socket, sys
answers = json.loads(sys.argv[1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = answers.get(self.path.removeprefix("/latest/"))
        self.send_response(404 if answer is None else 200)
        self.end_headers()
        self.wfile.write((answer or "").encode("latin-1"))
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
address = socket.getaddrinfo(sys.argv[2], 80)[0][4]
Server(address, Handler).serve_forever()
"""
# The first answer comes when the listener is up.
UDP_ECHO = """sudo nc -u -p 7000 -lk -e echo foolish &
for i in $(seq 20); do
    sleep 0.5
    test "$(echo bar | nc -w 2 -u 127.0.0.1 7000)" = foolish && exit 0
done
exit 1"""


@pytest.fixture(scope="session")
def built():
    return base.build()


@dataclass
class Neighbourhood:
    """A namespace of the test's own at the far end of a server's wire: gateway, metadata service, ssh client."""

    lab: object
    directory: Path
    name: str = f"dockstack-test-{os.getpid()}"
    services: list[subprocess.Popen] = field(default_factory=list)

    def __post_init__(self) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.directory / "key"], check=True)

    @property
    def public_key(self) -> str:
        return (self.directory / "key.pub").read_text().strip()

    def connect(self, server) -> None:
        device = server.ports[0].device
        ip = ["ip", "-n", self.name]
        self.close()  # of a killed run whose process had this one's number
        for command in (
            ["ip", "netns", "add", self.name],
            ["ip", "link", "set", device, "netns", self.name],
            [*ip, "link", "set", "lo", "up"],
            [*ip, "link", "set", device, "up"],
            [*ip, "addr", "add", f"{GATEWAY}/24", "dev", device],
            [*ip, "addr", "add", "169.254.169.254/32", "dev", device],
        ):
            subprocess.run(command, check=True)

    def serve(self, address: str = "169.254.169.254", **more: str) -> None:
        answers = {
            "meta-data/instance-id": "i-00000001",
            "meta-data/local-hostname": "named.novalocal",
            "meta-data/public-keys/": "0=mine",
            "meta-data/public-keys/0/openssh-key": self.public_key,
        } | more
        command = ["ip", "netns", "exec", self.name, sys.executable, "-c", METADATA, json.dumps(answers), address]
        self.services.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))

    def stop_serving(self) -> None:
        for service in self.services:
            service.kill()
            service.wait()
        self.services.clear()

    def ssh(self, server, command: str, user: str = base.USER, password: str = "") -> subprocess.CompletedProcess[str]:
        """Log in by the key, or by a password if there is one."""
        address = server.ports[0].addresses[0].cidr.partition("/")[0]
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=60"]
        options += ["PubkeyAuthentication=no", "NumberOfPasswordPrompts=1"] if password else ["BatchMode=yes"]
        answer = self.directory / "answer"
        answer.write_text(f"#!/bin/sh\necho {password}\n")
        answer.chmod(0o700)
        asking = dict(os.environ, SSH_ASKPASS=str(answer), SSH_ASKPASS_REQUIRE="force" if password else "never")
        words = ["ssh", "-q", "-i", str(self.directory / "key"), *(word for item in options for word in ("-o", item))]
        words = ["ip", "netns", "exec", self.name, *words, f"{user}@{address}", command]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=240, env=asking)

    def login(self, server, command: str, user: str = base.USER) -> str:
        def attempt() -> list[str]:
            done = self.ssh(server, command, user)
            return [done.stdout] if done.returncode == 0 else []

        try:
            return wait_for(attempt, "the login")[0]
        except TimeoutError:
            last = self.ssh(server, command, user)
            pytest.fail(f"{command!r} by ssh: {last.stdout}{last.stderr}; the console:\n{console(self.lab, server)}")

    def close(self) -> None:
        self.stop_serving()
        subprocess.run(["ip", "netns", "del", self.name], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def neighbourhood(lab, tmp_path):
    neighbourhood = Neighbourhood(lab, tmp_path)
    yield neighbourhood
    neighbourhood.close()


@pytest.fixture
def loaded(built, engine, tmp_path):
    store = ImageStore(engine, lambda image: built.archive(), tmp_path / "workspace", ImageLimits())
    store.sweep()
    return store.ensure(Image(id="base", name="base", checksum=built.checksum()), 1 << 30)


def start(lab, neighbourhood, loaded):
    server = lab.server(properties={"docker_command": '["/sbin/init"]'})
    lab.create(server, loaded.config, loaded.engine_id)
    neighbourhood.connect(server)
    lab.engine.start(server.container_name)
    return server


def test_a_server_with_ipv6_alone_asks_on_its_link(lab, neighbourhood, loaded):
    server = lab.server(properties={"docker_command": '["/sbin/init"]'})
    (port,) = server.ports
    server = replace(server, ports=(replace(port, addresses=port.addresses[1:], routes=()),))
    lab.create(server, loaded.config, loaded.engine_id)
    neighbourhood.connect(server)
    link = ["ip", "-n", neighbourhood.name, "addr", "add", "fe80::a9fe:a9fe/64", "dev", port.device, "nodad"]
    subprocess.run(link, check=True)
    neighbourhood.serve(f"fe80::a9fe:a9fe%{port.device}")
    lab.engine.start(server.container_name)
    wait_for_line(lab, server, "instance-id i-00000001")
    wait_for_line(lab, server, "1 key(s) installed")


@pytest.mark.parametrize(("command", "status"), [("reboot", 129), ("poweroff", 130), ("halt", 130)])
def test_it_reboots_and_switches_off_as_it_is_told(lab, loaded, command, status):
    server = lab.server(properties={"docker_command": '["/sbin/init"]'}, ports=())
    lab.create(server, loaded.config, loaded.engine_id)
    lab.engine.start(server.container_name)
    wait_for_line(lab, server, "init: up")
    lab.engine.execute(server.container_name, [command])
    wait_for(lambda: lab.state(server).exit_code == status, f"status {status}")


def console(lab, server) -> str:
    return lab.engine.logs(server.container_name, 1 << 20).decode()


def wait_for_line(lab, server, text: str) -> None:
    try:
        wait_for(lambda: text in console(lab, server), "the line")
    except TimeoutError:
        pytest.fail(f"{text!r} is not on the console:\n{console(lab, server)}")


def test_it_is_small_and_the_same_every_time(built):
    assert built.layer.size < 32 << 20
    assert base.build().checksum() == built.checksum()


def test_a_key_pair_logs_in(lab, neighbourhood, loaded):
    server = start(lab, neighbourhood, loaded)
    neighbourhood.serve()
    assert neighbourhood.login(server, "id -un; hostname").split() == [base.USER, server.hostname]
    assert neighbourhood.login(server, "id -u", user="root") == "0\n"
    assert "uid=1000" in neighbourhood.login(server, "set -eu -o pipefail; id | cat")
    wait_for_line(lab, server, "no user data")
    lines = console(lab, server).splitlines()
    assert len(lines) > 10
    for text in (f"address: eth0 inet {server.ports[0].addresses[0].cidr}", "route: default via", "host key: SHA256:"):
        assert any(text in line for line in lines), console(lab, server)


def test_tools_that_tests_need_work_without_privileges(lab, neighbourhood, loaded):
    server = start(lab, neighbourhood, loaded)
    neighbourhood.serve()
    neighbourhood.login(server, "true")
    for command in (
        f"ping -c 1 -W 20 {GATEWAY}",
        "ping -6 -c 1 ::1 || ping6 -c 1 ::1",
        "wget -q -O - http://169.254.169.254/latest/meta-data/instance-id",
        "ip -o addr; ip route",
        "echo x | nc -w 20 169.254.169.254 80",
        "awk 'BEGIN { print 1 }'; sync; uptime; df -h /; ps; vi --help 2>&1 | head -1",
        "curl -V && curl -sf http://169.254.169.254/latest/meta-data/instance-id",
        "truncate -s 4M disk; sudo mkfs -t vfat disk; sudo mkfs -t ext4 disk; sudo blkid disk && lsblk --version",
        "test $(sudo id -u) = 0",
        "sudo nc -p 7000 -lk -e echo foolish & sleep 0.5; for i in 1 2; do nc -w 1 127.0.0.1 7000; sleep 0.2; done",
        UDP_ECHO,
        "p=/var/run/udhcpc.eth0.pid; until [ -s $p ]; do sleep 0.1; done; sudo /bin/kill -USR1 $(cat $p)",
    ):
        done = neighbourhood.ssh(server, command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


def test_user_data_and_keys_come_once(lab, neighbourhood, loaded):
    server = start(lab, neighbourhood, loaded)
    script = "#!/bin/sh\necho count=$(echo x >> /root/runs; wc -l < /root/runs)\nexit 3\n"
    neighbourhood.serve(**{"user-data": script})
    wait_for_line(lab, server, "user data ended with exit status 3")
    assert "count=1" in console(lab, server)
    lab.engine.stop(server.container_name, 10)
    lab.engine.start(server.container_name)
    wait_for_line(lab, server, "user data has run before")
    assert neighbourhood.login(server, "wc -l < /root/runs", user="root").strip() == "1"
    assert console(lab, server).count("key(s) installed") == 1
    wait_for_line(lab, server, "keys were installed before")


def test_a_config_drive_is_read_without_any_network(lab, loaded):
    waiting = ["/bin/sh", "-c", "while [ ! -d /d ]; do usleep 9; done; exec /sbin/init"]
    server = lab.server(properties={"docker_command": json.dumps(waiting)})
    lab.create(server, loaded.config, loaded.engine_id)
    lab.engine.start(server.container_name)
    key = "ssh-ed25519 AAAA me"
    meta = {"instance-id": "i-7", "local-hostname": "x", "public-keys": {"0": {"openssh-key": key + "\n"}}}
    entries = [
        Entry("config-drive/ec2/latest/meta-data.json", 0o600, json.dumps(meta).encode()),
        Entry("config-drive/ec2/latest/user-data", 0o600, b"#!/bin/sh\necho from the drive\n"),
        Entry("d", 0o700),
    ]
    lab.engine.put_archive(server.container_name, "/", build_archive(entries))
    wait_for_line(lab, server, "from the drive")
    wait_for_line(lab, server, "instance-id i-7")
    wait_for_line(lab, server, "key(s) installed")
    assert lab.run(server, "cat", "/root/.ssh/authorized_keys") == key + "\n"


def test_a_password_lets_its_owner_become_another(lab, loaded):
    server = lab.server(properties={"docker_command": '["/sbin/init"]'})
    lab.create(server, loaded.config, loaded.engine_id)
    lab.engine.start(server.container_name)
    hashed = hash_password("geheim")
    entry = Entry("etc/shadow", 0o600, f"root:{hashed}:1::::::\ndockstack:*:1::::::\n".encode())
    lab.engine.put_archive(server.container_name, "/", build_archive([entry]))
    for password, status in (("geheim", 0), ("falsch", 1)):
        command = ["bash", "-c", f"echo {password} | su root -c id"]
        done = lab.engine.execute(server.container_name, command, user="dockstack")
        assert (done.exit_code, b"uid=0(root)" in done.output) == (status, status == 0), done


def test_the_user_logs_in_by_a_password_that_was_set_and_root_by_none(lab, neighbourhood, loaded):
    server = start(lab, neighbourhood, loaded)
    neighbourhood.serve()
    neighbourhood.login(server, "true")
    assert neighbourhood.ssh(server, "true", password="geheim").returncode != 0, "none is set yet"
    shadow = "".join(f"{user}:{hash_password('geheim')}:1::::::\n" for user in ("root", base.USER))
    archive = build_archive([Entry("etc/shadow", 0o600, shadow.encode())])
    lab.engine.put_archive(server.container_name, "/", archive)
    by_password = {user: neighbourhood.ssh(server, "id -un", user, "geheim").stdout for user in (base.USER, "root")}
    assert by_password == {base.USER: f"{base.USER}\n", "root": ""}


def test_cloud_config_is_said_to_be_unsupported(lab, neighbourhood, loaded):
    server = start(lab, neighbourhood, loaded)
    neighbourhood.serve(**{"user-data": "#cloud-config\npassword: x\n"})
    wait_for_line(lab, server, "starts with '#cloud-config': not supported")


def test_a_metadata_service_that_comes_late_is_waited_for(lab, neighbourhood, loaded):
    server = start(lab, neighbourhood, loaded)
    wait_for_line(lab, server, "init: up")
    assert neighbourhood.ssh(server, "true").returncode != 0
    neighbourhood.serve()
    neighbourhood.login(server, "true")


def test_it_stops_at_once_and_its_children_are_reaped(lab, neighbourhood, loaded):
    server = start(lab, neighbourhood, loaded)
    neighbourhood.serve()
    neighbourhood.login(server, "(sleep 0.1 &) ; (sleep 1000 &)")
    neighbourhood.login(server, "kill -9 $(pidof dropbear | tr ' ' '\\n' | sort -n | head -1)", user="root")
    neighbourhood.login(server, "true")  # it was started again
    wait_for(lambda: " Z" not in lab.run(server, "ps", "-o", "pid,stat,comm"), "no zombies")
    before = time.monotonic()
    lab.engine.stop(server.container_name, 50)
    assert time.monotonic() - before < 40
    assert lab.state(server).exit_code == 130, "it was killed, and did not switch itself off"


def test_a_dhcp_client_has_its_script(lab, neighbourhood, loaded):
    server = start(lab, neighbourhood, loaded)
    answer = lab.engine.execute(server.container_name, ["udhcpc", "-n", "-q", "-t", "1", "-T", "1", "-i", "eth0"])
    assert b"no lease" in answer.output
