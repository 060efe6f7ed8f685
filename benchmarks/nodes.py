# SPDX-License-Identifier: Apache-2.0
"""What `dockstack node plan` and a second `dockstack node add` cost over many nodes: seconds, processor time, memory.

The nodes are SSH servers in one process beside the measured command: each has a port, a login by key and answers of its
own, as a machine gives them that is bare, or on which all is as it should be. No command runs there, so what is
measured is the machine that the command runs on. What a run of `add` takes on a node itself is given: --run.

    python benchmarks/nodes.py [--nodes 100] [--run 6] [--forks 20] [--json]
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import paramiko
import yaml

from dockstack.cli import main as command_line
from dockstack.deploy.configuration import compute_node
from dockstack.deploy.configuration.migration import CLIENT_PUBLIC
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.join import adding, journal, peers
from dockstack.deploy.join.look import MARK, NodeFacts
from dockstack.deploy.join.plan import Joining
from dockstack.deploy.node.environments import lock_text, source_hash
from dockstack.deploy.run.events import Event, Kind
from dockstack.deploy.wanted import cloud_document, inventory
from dockstack.deploy.wanted.attributes import SourceValues
from ssh_server import SshServer

ACCOUNTS = ("nova", "placement", "neutron")
CLOUD = {
    "release": "2026.2",
    "messaging.transport_url": "rabbit://nova:bus-pw@10.1.0.11:5672/",
    "identity.auth_url": "http://10.1.0.10:5000",
    "identity.region": "north",
    "ovn.southbound": ["tcp:10.1.0.11:6642"],
    "ovn.northbound": ["tcp:10.1.0.11:6641"],
    "metadata.host": "10.1.0.10",
    "metadata.secret": "meta-pw",
    **{f"accounts.{name}.username": name for name in ACCOUNTS},
    **{f"accounts.{name}.password": f"{name}-pw" for name in ACCOUNTS},
}
OS_RELEASE = 'ID=debian\nVERSION_ID="12"\n'
BARE = {
    "manager": "/usr/bin/apt-get",
    "python": "3 11",
    "memory": "64000",
    "disk": "/opt 99000\n/var/lib 99000",
    "namespaces": "/proc/self/ns/net",
    "tun": "/dev/net/tun",
    "datapath": "system",
    "systemd": "/run/systemd/system",
}


class LightNode(SshServer):
    """One node: it answers what is asked of it, and a run on it does nothing for some seconds."""

    def __init__(self, answers: dict, users: dict, run: float) -> None:
        super().__init__(Path("/nonexistent"), users)
        self._answers, self._run = answers, run
        self._until = 0.0

    def execute(self, channel, command: str) -> None:
        while channel.recv(65536):
            pass
        channel.sendall(self._answer(command).encode())
        channel.send_exit_status(0)
        channel.close()

    def _answer(self, command: str) -> str:
        if MARK in command:
            told = {**self._answers["facts"], "clock": str(time.time())}
            return "".join(
                f"\n{MARK}{name}\n{told.get(name, '')}\n" for name in re.findall(rf"{MARK}([a-z-]+)", command)
            )
        if ".dockstack-wheel" in command:
            return self._answers["command-line"]
        if "setsid" in command:
            self._until = time.monotonic() + self._run
            return "4242\n"
        if "tail -n +" in command:
            over = time.monotonic() >= self._until
            return f"gone\n{Event(Kind.END, seconds=self._run).line()}\n" if over else "alive\n"
        told = {
            "os-release": OS_RELEASE,
            CLIENT_PUBLIC: f"ssh-ed25519 {'A' * 64}\n" * 2,
            "base64": self._answers["files"],
        }
        return next((answer for word, answer in told.items() if word in command), "")


def settled(joining: Joining, facts: NodeFacts) -> dict:
    """What a machine answers on which all is as it should be."""
    files = {path: (file.content, file.group, file.mode) for path, file in joining.files(facts).items()}
    files |= {path: (edit(None), "root", 0o644) for path, edit in joining.plugin.edits().items()}
    packages = joining.packages(DEBIAN_12, engine=False, client=False)
    found = {
        "packages": "\n".join(f"{name} installed 1" for name in packages),
        "active": "\n".join(compute_node.here(joining.cloud)),
        **dict.fromkeys(("ours", "engine", "client"), "yes"),
        "lock": hashlib.sha256(lock_text(f"{CLOUD['release']}/openstack").encode()).hexdigest(),
    }
    lines = [
        f"root {group} {mode:o} {base64.b64encode(content.encode()).decode()} {path}"
        for path, (content, group, mode) in files.items()
    ]
    return {"facts": found, "files": "\n".join(lines) + "\n"}


def serve(directory: Path, count: int, run: float) -> None:
    """Be all nodes, and write the environment file that names them, until standard input ends."""
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(directory / "id"))
    cloud = cloud_document.CloudDocument([SourceValues("benchmark", CLOUD)])
    cloud_document.save(cloud, directory / "cloud.yaml")
    there = f"{hashlib.sha256(lock_text('cli').encode()).hexdigest()}\n{source_hash()}\n"
    nodes, known = {}, ""
    for number in range(count):
        name = f"node{number}"
        login = {"address": "127.0.0.1", "key": str(directory / "id"), "known_hosts": str(directory / "known")}
        raw = {"connector": "@ssh", "roles": ["compute"], **login}
        (one,) = inventory.load(None, (), further={name: raw}).nodes[:1]
        source = f"10.2.{number // 250}.{number % 250 + 1}"
        own = {**BARE, "hostname": name, "source": source}
        full = settled(Joining(one, cloud), NodeFacts(hostname=name, source=source))
        bare = {"facts": own, "files": "", "command-line": ""}
        answers = {"facts": {**own, **full["facts"]}, "files": full["files"], "command-line": there}
        for state, told in (("bare", bare), ("settled", answers)):
            server = LightNode(told, {"root": key}, run)
            known += server.known_hosts_line
            nodes.setdefault(state, {})[name] = {**raw, "port": server.port}
    (directory / "known").write_text(known)
    for state, named in nodes.items():
        (directory / f"{state}.yaml").write_text(yaml.safe_dump({"nodes": named}))
    print("ready", flush=True)
    sys.stdin.read()


def command(directory: Path, arguments: list[str]) -> None:
    """Be the command line, but for where its journal is."""
    own = {"journal": journal.Journal(directory / "journal"), "peers": peers.Peers(directory / "peers")}
    adding.Adding = partial(adding.Adding, **own)
    sys.argv = ["dockstack", *arguments]
    command_line.main()


def measure(directory: Path, verb: str, state: str, forks: int) -> dict:
    """Run one command over all nodes."""
    options = ["--environment", f"{directory}/{state}.yaml", "--cloud", f"{directory}/cloud.yaml", "--json"]
    line = [
        sys.executable,
        __file__,
        "--directory",
        str(directory),
        "--",
        "node",
        verb,
        *options,
        "--forks",
        str(forks),
    ]
    began = time.monotonic()
    process = subprocess.Popen(line, stdout=subprocess.PIPE, env={**os.environ, "HOME": str(directory)})
    output: list[bytes] = []
    reader = threading.Thread(target=lambda: output.append(process.stdout.read()))
    reader.start()
    _, status, used = os.wait4(process.pid, 0)
    reader.join()
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{verb} on {state} nodes failed:\n{output[0].decode()[-2000:]}")
    check(verb, state, output[0].decode())
    return {
        "command": f"{verb}, {state}",
        "seconds": round(time.monotonic() - began, 1),
        "processor seconds": round(used.ru_utime + used.ru_stime, 1),
        "MiB": round(used.ru_maxrss / 1024),
    }


def check(verb: str, state: str, output: str) -> None:
    """Refuse to have measured something else."""
    told = json.loads(output.splitlines()[-1])["hosts"] if verb == "add" else json.loads(output)
    wrong = {name: one for name, one in told.items() if bool(one["changes"]) is (state == "settled")}
    if wrong:
        sys.exit(f"{verb} is not as it should be on {len(wrong)} nodes: {next(iter(wrong.values()))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--run", type=float, default=6.0, help="seconds that a run of add takes on a node")
    parser.add_argument("--forks", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("line", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.directory, given.nodes, given.run)
    if given.line:
        return command(given.directory, given.line)
    with tempfile.TemporaryDirectory(prefix="dockstack-nodes-") as place:
        line = [sys.executable, __file__, "--serve", "--directory", place]
        line += ["--nodes", str(given.nodes), "--run", str(given.run)]
        with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nodes:
            if nodes.stdout.readline() != "ready\n":
                sys.exit("The nodes do not come up.")
            rounds = (("plan", "bare"), ("plan", "settled"), ("add", "settled"))
            results = [measure(Path(place), verb, state, given.forks) for verb, state in rounds]
            nodes.stdin.close()
    facts = {"nodes": given.nodes, "forks": given.forks, "run": given.run, "load": os.getloadavg()[0]}
    if given.json:
        print(json.dumps({**facts, "results": results}, indent=1))
        return None
    print(", ".join(f"{name} {value:g}" for name, value in facts.items()))
    for result in results:
        print(", ".join(f"{name}: {value}" for name, value in result.items()))
    return None


if __name__ == "__main__":
    main()
