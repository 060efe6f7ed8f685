# SPDX-License-Identifier: Apache-2.0
"""The DevStack plugin: all phases in order, with a stub of DevStack's functions, and in its own tree if one is given.

The command line is a stub that notes what it was called with, and prints what the real one prints of settings.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from dockstack.cli import hypervisor
from dockstack.compute import support
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.wanted import inventory

pytestmark = pytest.mark.unit

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[2]
DOCKER = "VIRT_DRIVER=docker"
STEPS = ("setup_develop", "pip_install", "run_process")
COMMAND_LINE = """#!/bin/sh
printf '%s\\n' "${AS_ROOT:+root: }dockstack $*" >> "$ROOT/notes"
case "$*" in
*"$FAILING"*) [ -z "$FAILING" ] || { echo "error: it failed" >&2; exit 1; } ;;
esac
case "$1 $2" in
--version*) mkdir -p "${0%/*}/.venv/bin" && cp "$0" "${0%/*}/.venv/bin/python" ;;
"hypervisor settings") cat "$ROOT/settings/$3" ;;
esac
"""
GLANCE = """#!/bin/sh
case "$1" in */container_formats.py) echo "$GLANCE_FORMATS" ;; esac
"""


@dataclass
class DevStack:
    """A tree, stub or real, with the plugin beside it."""

    kind: str
    root: Path
    said: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, script: str, localrc: str = DOCKER, **environment: str) -> int:
        """Run one of DevStack's scripts; return its exit status."""
        (self.root / "notes").write_text("")
        self.environment = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}", "HOME": str(self.root), "ROOT": str(self.root),
            "LOCALRC": localrc, "FAILING": "", "GLANCE_FORMATS": "bare,ova,docker", "LANG": "C.UTF-8", **environment,
        }  # fmt: skip
        line = ["bash", str(HERE / "drive.sh"), self.kind, script]
        done = subprocess.run(line, env=self.environment, capture_output=True, text=True, check=False, cwd=self.root)
        self.said = done.stdout + done.stderr
        return done.returncode

    @property
    def notes(self) -> list[str]:
        return (self.root / "notes").read_text().splitlines()

    @property
    def calls(self) -> list[str]:
        """What the command line was called with, without the proxies and the attributes of every call."""
        found = [line for line in self.notes if re.match("(root: )?dockstack ", line)]
        return [line.replace(" --set docker.group=docker", "") for line in found]

    def option(self, file: str, section: str, name: str) -> str | None:
        """Return an option of a configuration file; None if it is not there."""
        path = self.root / file
        text = path.read_text() if path.exists() else ""
        if self.kind == "stub":
            found = re.findall(rf"^{section}\.{name}=(.*)$", text, re.MULTILINE)
            return found[-1] if found else None
        within = re.search(rf"^\[{section}\]\n((?:(?!\[).*\n)*)", f"{text}\n", re.MULTILINE)
        found = re.search(rf"^{name} = ?(.*)$", within[1] if within else "", re.MULTILINE)
        return found[1] if found else None

    def files(self) -> set[str]:
        """Return what is in the tree and in the plugin's checkout."""
        return {str(path) for name in ("devstack", "dockstack") for path in (self.root / name).rglob("*")}


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def place_tree(source: str, target: Path) -> None:
    """Copy a checkout of DevStack, or what a bare repository has at its HEAD."""
    if (Path(source) / "stack.sh").exists():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(".git"))
        return
    target.mkdir()
    packed = subprocess.run(["git", "--git-dir", source, "archive", "HEAD"], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(target)], input=packed.stdout, check=True)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """What the real command line prints for OpenStack's files."""
    directory = tmp_path_factory.mktemp("settings")
    for name in ("nova.conf", "glance-api.conf", "tempest.conf"):
        printed = CliRunner().invoke(hypervisor.hypervisor, ["settings", name])
        assert printed.exit_code == 0, printed.exception
        (directory / name).write_text(printed.output)
    return directory


@pytest.fixture
def make(tmp_path, settings):
    """Have the plugin, with a stub of the command line, beside DevStack of either kind."""

    def lay(kind):
        (tmp_path / "devstack/lib/nova_plugins").mkdir(parents=True, exist_ok=True)
        shutil.copytree(CHECKOUT / "devstack", tmp_path / "dockstack/devstack")
        executable(tmp_path / "dockstack/dockstack", COMMAND_LINE)
        executable(tmp_path / "venv/bin/python3", GLANCE)
        executable(tmp_path / "bin/modprobe", "#!/bin/sh\nexit ${NO_MODULE:-0}\n")
        (tmp_path / "settings").symlink_to(settings)
        return DevStack(kind, tmp_path)

    return lay


@pytest.fixture
def stub(make):
    return make("stub")


@pytest.fixture(params=["stub", "tree"])
def devstack(request, tmp_path, make):
    if request.param == "tree":
        tree = request.config.getoption("--devstack")
        if tree is None:
            pytest.skip("no DevStack tree was given (--devstack DIR)")
        place_tree(tree, tmp_path / "devstack")
    return make(request.param)


def test_two_lines_make_a_docker_cloud_and_nothing_is_left_of_it(devstack):
    before = devstack.files()
    python = devstack.root / "venv/bin/python3"
    assert devstack.run("stack") == 0, devstack.said
    assert devstack.calls == [
        "dockstack --version",
        "root: dockstack hypervisor install",
        f"dockstack driver install --python {python}",
        f"dockstack driver check --python {python}",
        f"root: dockstack hypervisor configure --python {python} --user {pwd.getpwuid(os.getuid()).pw_name}",
        "dockstack hypervisor settings nova.conf",
        "dockstack hypervisor settings glance-api.conf",
        "root: dockstack hypervisor start",
        "dockstack image base --os-cloud devstack-admin",
        "dockstack hypervisor settings tempest.conf",
        f"dockstack image build --output {devstack.root}/data/dockstack-base.tar",
        "dockstack verify --os-cloud devstack --network private --only docker",
    ]
    # Nova, then the driver into its environment, then nova-compute
    order = [words[0] for line in devstack.notes if (words := line.split()) and words[0] in STEPS]
    assert order == list(STEPS)
    assert f"pip_install venv= -e {devstack.root}/dockstack[compute]" in devstack.notes
    (started,) = [line for line in devstack.notes if line.startswith("run_process n-cpu")]
    assert started.endswith(" docker")
    assert "chosen dockstack_metadata dockstack-base dockstack" in devstack.notes
    for file in ("nova.conf", "nova-cpu.conf"):
        assert devstack.option(file, "DEFAULT", "compute_driver") == "docker.DockerDriver"
    assert devstack.option("nova-cpu.conf", "docker", "state_directory") == "/var/lib/dockstack/compute"
    assert devstack.option("tempest.conf", "compute-feature-enabled", "live_migration") == "false"

    assert devstack.run("unstack") == 0, devstack.said
    assert devstack.calls == ["root: dockstack hypervisor cleanup", "root: dockstack hypervisor stop"]
    verb = next(number for number, line in enumerate(devstack.notes) if "hypervisor cleanup" in line)
    assert "stop_process n-cpu" in devstack.notes[:verb]

    assert devstack.run("clean") == 0, devstack.said
    assert devstack.calls == [f"dockstack driver remove --python {python}", "root: dockstack clean --yes"]
    left = {Path(path).name for path in devstack.files() - before}
    assert left <= {"local.conf", ".localrc.auto"}  # the person's, and DevStack's


def test_nova_gets_the_options_that_the_plugin_of_up_gives(stub):
    stub.run("stack")
    attributes = inventory.load(None, ()).local.attributes
    expected = dict(dict(Docker(attributes, hypervisor.nova_compute.UNKNOWN).contribution().nova)["docker"])
    assert {name: stub.option("nova.conf", "docker", name) for name in expected} == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("bare,ova,docker,dockerref", None),
        ("bare,ova", "bare,ova,docker,dockerref"),
        ("dockerref", "dockerref,docker"),
    ],
)
def test_glance_keeps_the_formats_that_it_has(stub, before, after):
    stub.run("stack", GLANCE_FORMATS=before)
    assert stub.option("glance-api.conf", "image_format", "container_formats") == after


def test_tempest_expects_what_the_matrix_says(stub):
    stub.run("stack")
    flags = support.tempest_flags(support.load()) | {"serial_console": False}  # there is no n-sproxy
    told = {name: stub.option("tempest.conf", "compute-feature-enabled", name) for name in flags}
    assert told == {name: str(value).lower() for name, value in flags.items()}
    assert stub.option("tempest.conf", "compute", "hypervisor_type") == "docker"
    assert stub.option("tempest.conf", "scenario", "img_file") == f"{stub.root}/data/dockstack-base.tar"


def test_clean_before_any_stack_does_nothing(stub):
    assert stub.run("unstack") == stub.run("clean") == 0, stub.said
    assert stub.calls == []


def test_a_second_stack_does_the_same(stub):
    stub.run("stack")
    first = stub.calls
    assert stub.run("stack") == 0, stub.said
    assert stub.calls == first


@pytest.mark.parametrize("verb", ["hypervisor install", "driver check", "settings nova.conf", "image base", "verify"])
def test_what_fails_ends_stack(stub, verb):
    assert stub.run("stack", FAILING=verb) == 1, stub.said
    assert verb in stub.calls[-1]


def test_attributes_are_given_to_every_verb(stub):
    localrc = f'{DOCKER}\nDOCKSTACK_ATTRIBUTES="docker.own=true docker.storage=btrfs"\nDOCKER_GROUP=engine'
    stub.run("stack", localrc)
    verbs = [line for line in stub.calls if "hypervisor" in line]
    assert len(verbs) == 6
    wanted = "--set docker.group=engine --set docker.own=true --set docker.storage=btrfs"
    assert all(wanted in line for line in verbs)


def test_with_cinder_servers_can_mount_their_volumes(devstack):
    services = "key,n-api,n-cpu,placement-api,placement-client,g-api,q-svc,q-ovn-agent,ovn-controller,c-api,c-sch,c-vol"
    assert devstack.run("stack", f"{DOCKER}\nENABLED_SERVICES={services}") == 0, devstack.said
    verbs = [line for line in devstack.calls if "hypervisor" in line]
    assert len(verbs) == 6
    assert all(" --set volumes.enable=true" in line for line in verbs)
    assert (
        devstack.run("stack", f"{DOCKER}\nDOCKSTACK_ATTRIBUTES=volumes.enable=false\nENABLED_SERVICES={services}") == 0
    )
    verbs = [line for line in devstack.calls if "hypervisor" in line]
    assert all(line.index("volumes.enable=true") < line.index("volumes.enable=false") for line in verbs), (
        "the last wins"
    )


def test_the_proof_is_chosen_and_left_out(stub):
    stub.run("stack", f'{DOCKER}\nDOCKSTACK_VERIFY="docker login"\nPRIVATE_NETWORK_NAME=mine')
    assert stub.calls[-1] == ("dockstack verify --os-cloud devstack --network mine --only docker --only login")
    for without in ("DOCKSTACK_VERIFY=", "NEUTRON_CREATE_INITIAL_NETWORKS=False"):
        assert stub.run("stack", f"{DOCKER}\n{without}") == 0
        assert not any("verify" in line for line in stub.calls)


def test_a_compute_node_brings_no_image_and_proves_nothing(devstack):
    services = "n-cpu,placement-client,ovn-controller,q-ovn-agent"
    assert devstack.run("stack", f"{DOCKER}\nENABLED_SERVICES={services}") == 0, devstack.said
    verbs = [re.sub(" --.*", "", line) for line in devstack.calls[1:]]
    assert verbs == [
        "root: dockstack hypervisor install", "dockstack driver install", "dockstack driver check",
        "root: dockstack hypervisor configure", "dockstack hypervisor settings nova.conf",
        "root: dockstack hypervisor start", "dockstack hypervisor settings tempest.conf", "dockstack image build",
    ]  # fmt: skip


def test_a_controller_beside_docker_nodes_takes_images_and_runs_none(devstack):
    assert devstack.run("stack", "VIRT_DRIVER=fake") == 0, devstack.said
    assert "servers here are not containers" in devstack.said
    assert devstack.calls == [
        "dockstack --version", "dockstack hypervisor settings glance-api.conf",
        "dockstack image base --os-cloud devstack-admin",
    ]  # fmt: skip
    assert not (devstack.root / "devstack/lib/nova_plugins/hypervisor-docker").exists()
    assert devstack.run("clean", "VIRT_DRIVER=fake") == 0, devstack.said
    assert not (devstack.root / "dockstack/.venv").exists()


def test_another_network_than_ovn_is_refused_at_once(stub):
    assert stub.run("stack", f"{DOCKER}\nQ_AGENT=openvswitch") != 0
    assert "need OVN" in stub.said
    assert stub.calls == []


@pytest.mark.parametrize("missing", [True, False])
def test_without_a_module_the_switch_is_in_user_space(stub, missing):
    if Path("/sys/module/openvswitch").exists():
        pytest.skip("this kernel has the module, whatever modprobe says")
    stub.run("stack", NO_MODULE="1" if missing else "0")
    assert stub.option("nova.conf", "docker", "checksum_offload") == ("false" if missing else None)


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("", "dockstack_metadata"),
        ("OVN_AGENT_EXTENSIONS=metadata,qos", "dockstack_metadata,qos"),
        ("OVN_AGENT_EXTENSIONS=qos", "qos"),
        ("USE_VENV=True", "metadata"),
    ],
)
def test_metadata_is_ours_where_the_agent_can_load_it(stub, asked, got):
    script = f'source "{stub.root}/dockstack/devstack/override-defaults"; echo "<${{OVN_AGENT_EXTENSIONS:-metadata}}>"'
    functions = 'function is_service_enabled { true; }; TOP_DIR="$ROOT/devstack"'
    environment = {"ROOT": str(stub.root), "PATH": os.environ["PATH"]}
    line = ["bash", "-ec", f"{functions}; {DOCKER}; {asked or ':'}; {script}"]
    said = subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout
    assert f"<{got}>" in said
    ours = Docker(inventory.load(None, ()).local.attributes).contribution().metadata_extension
    assert ours == "dockstack_metadata"


def test_environments_of_their_own_are_used(stub):
    stub.run("stack", f"{DOCKER}\nUSE_VENV=True")
    (pip,) = [line for line in stub.notes if line.startswith("pip_install")]
    assert f"venv={stub.root}/nova.venv" in pip


def test_where_there_is_no_debian_no_base_image_is_built(stub):
    assert stub.run("stack", DISTRO="rhel9") == 0, stub.said
    assert "Bring an image of yours" in stub.said
    assert not any("image" in line for line in stub.calls)
