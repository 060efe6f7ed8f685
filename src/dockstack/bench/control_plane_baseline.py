# SPDX-License-Identifier: Apache-2.0
"""The control-plane baseline: a second nova-compute with Nova's fake driver, for as long as the benchmark runs.

It reads the same configuration files as the node's own nova-compute, with one file of ours after them. Ports are bound
by OVN to a chassis, so the fake host gets a chassis row in OVN's southbound database, without an ovn-controller. The
fake driver plugs nothing, so Neutron never sends `network-vif-plugged`, and the fake service does not wait for it
(vif_plugging_timeout=0). What is left is the cost of scheduling, allocation, binding and the API.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from openstack import exceptions as sdk_errors

from dockstack.bench.model import PREFIX
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HOST = f"{PREFIX}baseline"
ZONE = f"{PREFIX}baseline"
DIRECTORY = Path("/var/lib/dockstack/bench-baseline")
DATABASE_FILE = Path("/etc/nova/nova-db.conf")
UP_SECONDS = 90
STOP_SECONDS = 60
FAKE_MEMORY_MB = 8192  # nova/virt/fake.py:SmallFakeDriver
ENCAPSULATION_IP = "127.66.66.66"
# Above any sequence number that Neutron asks chassis to catch up with: it takes the agent for alive
# (neutron/plugins/ml2/drivers/ovn/agent/neutron_agent.py:NeutronAgent.alive).
NB_CFG = 2**40


@dataclass(frozen=True)
class RunningCompute:
    """The node's own nova-compute process."""

    arguments: tuple[str, ...]
    user: str
    pid: int = 0

    @property
    def directory(self) -> Path:
        """Where Nova's commands are."""
        return next(Path(each).parent for each in self.arguments if Path(each).name == "nova-compute")

    @property
    def config_files(self) -> tuple[str, ...]:
        """Its configuration files, in order."""
        pairs = zip(self.arguments, self.arguments[1:], strict=False)
        joined = [each.partition("=")[2] for each in self.arguments if each.startswith("--config-file=")]
        return (*[value for key, value in pairs if key == "--config-file"], *joined)


@contextmanager
def running_baseline(connection: Any, memory_mb: int, servers: int, say: Callable[[str], None]) -> Iterator[str]:
    """Run the fake compute service and yield its availability zone; all of it is removed afterwards.

    Args:
        connection: an administrator's.
        memory_mb: the flavor's memory.
        servers: how many servers the fake host has to hold at once. It offers no more than that, so that the
            scheduler prefers the real node for everybody else.
        say: told what goes on.

    Raises:
        DockstackError: it cannot be run here.
    """
    compute = find_running_compute()
    with ExitStack() as stack:
        remove_service(connection)
        write_directory(compute, memory_mb * (servers + 2))
        stack.callback(shutil.rmtree, DIRECTORY, ignore_errors=True)
        say("adding a chassis for the baseline")
        remove_chassis(connection)
        add_chassis()
        stack.callback(remove_chassis, connection)
        stack.callback(remove_service, connection)
        process = start(compute)
        stack.callback(stop, process)
        say("waiting for the baseline's nova-compute")
        wait_for_service(connection, process)
        discover(compute)
        add_zone(connection)
        stack.callback(remove_zone, connection)
        yield ZONE


def find_running_compute() -> RunningCompute:
    """Find the node's nova-compute.

    Raises:
        DockstackError: none runs here, or we are not root.
    """
    if os.geteuid() != 0:
        raise DockstackError(
            "The control-plane baseline needs root: it starts a service as Nova's user.", "Run as root."
        )
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            arguments = tuple(process.cmdline())
            named = any(Path(each).name == "nova-compute" for each in arguments[:2])
            if named and HOST not in " ".join(arguments) and is_of_this_host(process.pid):
                return RunningCompute(arguments, process.username(), process.pid)
    raise DockstackError("No nova-compute runs on this machine.", "Run on the cloud's machine, after `dockstack up`.")


def runs_beside_us(pid: int) -> bool:
    """Whether a process is in our own pid namespace; a nova-compute in a container belongs to another cloud."""
    return _shares(pid, "pid")


def is_of_this_host(pid: int) -> bool:
    """Whether a process is of this machine's own host; those of its further hosts have a network of their own."""
    return _shares(pid, "pid", "net")


def _shares(pid: int, *namespaces: str) -> bool:
    try:
        return all(
            Path(f"/proc/{pid}/ns/{kind}").readlink() == Path(f"/proc/self/ns/{kind}").readlink() for kind in namespaces
        )
    except OSError:  # it ended meanwhile
        return False


def override_of(memory_mb: int) -> str:
    """Return the configuration that makes a nova-compute the baseline."""
    return f"""\
[DEFAULT]
compute_driver = fake.SmallFakeDriver
host = {HOST}
state_path = {DIRECTORY}
log_file = {DIRECTORY}/nova-compute.log
vif_plugging_timeout = 0
vif_plugging_is_fatal = false
cpu_allocation_ratio = 1000.0
ram_allocation_ratio = 1.0
reserved_host_memory_mb = {max(0, FAKE_MEMORY_MB - memory_mb)}
reserved_host_disk_mb = 0

[oslo_concurrency]
lock_path = {DIRECTORY}/lock
"""


def write_directory(compute: RunningCompute, memory_mb: int) -> None:
    """Give the baseline its own state directory, owned by Nova's user."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(mode=0o750, parents=True)
    (DIRECTORY / "baseline.conf").write_text(override_of(memory_mb))
    for path in (DIRECTORY, DIRECTORY / "baseline.conf"):
        shutil.chown(path, compute.user)


def start(compute: RunningCompute) -> subprocess.Popen[bytes]:
    """Start the fake compute service; the kernel ends it if we die."""
    account = pwd.getpwnam(compute.user)
    command = [
        "setpriv", "--pdeathsig", "TERM", "--reuid", compute.user, "--regid", str(account.pw_gid), "--init-groups",
        str(compute.directory / "nova-compute"),
        *[f"--config-file={path}" for path in (*compute.config_files, str(DIRECTORY / "baseline.conf"))],
    ]  # fmt: skip
    environment = {"PATH": f"{compute.directory}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": account.pw_dir}
    with (DIRECTORY / "output.log").open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=DIRECTORY, env=environment)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop it, gently first."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for_service(connection: Any, process: subprocess.Popen[bytes]) -> None:
    """Wait until the service has reported.

    Raises:
        DockstackError: it ended, or did not report in time; the details hold the end of its log.
    """
    deadline = time.monotonic() + UP_SECONDS
    while not any(service.state == "up" for service in services_of(connection)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise DockstackError(
                "The baseline's nova-compute did not come up.",
                f"Its log is below; {DIRECTORY} is removed when the benchmark ends.",
                log_tail(),
            )
        time.sleep(0.5)


def log_tail(lines: int = 20) -> str:
    """Return the end of what the fake service wrote."""
    logs = [DIRECTORY / "output.log", DIRECTORY / "nova-compute.log"]
    text = [line for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines()]
    return "\n".join(text[-lines:])


def services_of(connection: Any) -> list[Any]:
    """Return the baseline's service records."""
    return [each for each in connection.compute.services(binary="nova-compute") if each.host == HOST]


def discover(compute: RunningCompute) -> None:
    """Map the new host into its cell; it takes the database's credentials, which nova-compute does not have."""
    files = [path for path in (*compute.config_files, str(DATABASE_FILE)) if Path(path).exists()]
    command = [
        "setpriv", "--reuid", compute.user, "--regid", str(pwd.getpwnam(compute.user).pw_gid), "--init-groups",
        str(compute.directory / "nova-manage"),
        *[f"--config-file={path}" for path in files],
        "cell_v2", "discover_hosts",
    ]  # fmt: skip
    run(command)


def add_zone(connection: Any) -> None:
    """Put the host into an aggregate of its own, whose zone the baseline's servers ask for."""
    aggregate = connection.compute.create_aggregate(name=ZONE, availability_zone=ZONE)
    connection.compute.add_host_to_aggregate(aggregate.id, HOST)


def remove_zone(connection: Any) -> None:
    """Take the host out of its aggregate and delete that; absent is fine."""
    for aggregate in connection.compute.aggregates():
        if aggregate.name == ZONE:
            for host in aggregate.hosts or ():
                connection.compute.remove_host_from_aggregate(aggregate.id, host)
            connection.compute.delete_aggregate(aggregate.id)


def remove_service(connection: Any) -> None:
    """Delete the service record; Nova removes its resource provider and host mapping with it. Absent is fine."""
    remove_zone(connection)
    for service in services_of(connection):
        with contextlib.suppress(sdk_errors.NotFoundException):
            connection.compute.delete_service(service.id)


def southbound() -> tuple[str, ...]:
    """Return the client command for the southbound database, at the address that ovn-controller uses."""
    remote = run(["ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids:ovn-remote"]).strip().strip('"')
    return ("ovn-sbctl", f"--db={remote}")


def add_chassis() -> None:
    """Add a chassis that bears the fake host's name."""
    run([*southbound(), *chassis_rows(int(time.time() * 1000))])


def chassis_rows(now_ms: int) -> tuple[str, ...]:
    """Return the transaction that adds a chassis; see ovn-sb(5)."""
    return (
        "--id=@encap", "create", "Encap", "type=geneve", f"ip={ENCAPSULATION_IP}", f"chassis_name={HOST}",
        "--", "--id=@chassis", "create", "Chassis", f"name={HOST}", f"hostname={HOST}", "encaps=@encap",
        "--", "create", "Chassis_Private", f"name={HOST}", "chassis=@chassis",
        f"nb_cfg={NB_CFG}", f"nb_cfg_timestamp={now_ms}",
    )  # fmt: skip


def remove_chassis(connection: Any) -> None:
    """Remove the chassis, and before that its agent: Neutron would list it, dead, until its API starts again.

    Absent is fine.
    """
    for agent in connection.network.agents(host=HOST):
        connection.network.delete_agent(agent, ignore_missing=True)
    command = southbound()
    run([*command, "--if-exists", "chassis-del", HOST])
    run([*command, "--if-exists", "destroy", "Chassis_Private", HOST])


def run(command: Sequence[str]) -> str:
    """Run a command to its end and return its output.

    Raises:
        DockstackError: it failed; the details hold what it wrote.
    """
    try:
        done = subprocess.run(list(command), check=True, capture_output=True, text=True, timeout=120)
    except FileNotFoundError as error:
        raise DockstackError(f"{command[0]} is not installed here.", "Run on the cloud's machine.") from error
    except subprocess.CalledProcessError as error:
        raise DockstackError(f"`{' '.join(command)}` failed.", details=error.stdout + error.stderr) from error
    except subprocess.TimeoutExpired as error:
        raise DockstackError(f"`{' '.join(command)}` did not end.") from error
    return done.stdout
