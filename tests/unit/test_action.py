# SPDX-License-Identifier: Apache-2.0
"""GitHub's action: its file is whole, its shell is good, and what it says to `dockstack` is what that understands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from dockstack.cli.main import cli
from dockstack.deploy.wanted.attributes import AttributeRefusedError, command_line_values, resolve
from dockstack.deploy.wanted.catalogue import CATALOGUE

pytestmark = pytest.mark.unit

CHECKOUT = Path(__file__).resolve().parents[2]
ACTION = yaml.safe_load((CHECKOUT / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
SCRIPTS = {name: step["run"] for name, step in STEPS.items() if "run" in step}
UP, USE = "Bring the cloud up", "Let the following steps use it"
KEY = "steps.cloud.outputs.key"
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}")
# Notes what it was to do as root, an argument a line, and an empty line after each; the cloud's file is not here.
SUDO = """#!/bin/bash
printf '%s\\n' "$@" "" >> "$NOTES"
case $* in
*" --from "* | *" bake "*) [ ! -e "$NOTES.refused" ] ;;
esac || exit 1
case $1 in
find) "$@" ;;
cat) echo "clouds: {}" ;;
cmp) echo "clouds: {}" | cmp -s - "$4" ;;
esac
"""


class Runner:
    """A runner of GitHub's, as much of it as the scripts touch."""

    def __init__(self, directory: Path) -> None:
        self.home, self.notes, self.environment = directory / "home", directory / "notes", directory / "environment"
        self.home.mkdir()
        self.notes.touch()
        program = directory / "bin/sudo"
        program.parent.mkdir()
        program.write_text(SUDO)
        program.chmod(0o755)
        self.variables = {
            "PATH": f"{program.parent}:/usr/bin:/bin",
            "HOME": str(self.home),
            "NOTES": str(self.notes),
            "GITHUB_ACTION_PATH": str(CHECKOUT),
            "GITHUB_ENV": str(self.environment),
            "GITHUB_OUTPUT": str(directory / "output"),
            "RUNNER_TEMP": str(directory),
        }

    def run(self, name: str, **inputs: str) -> subprocess.CompletedProcess[str]:
        """Run a step with its variables as GitHub fills them in, the way GitHub calls bash."""
        given = {key: each["default"] for key, each in ACTION["inputs"].items()} | {KEY: "the-key"} | inputs
        filled = {
            key: EXPRESSION.sub(lambda found: given[found[1].strip().removeprefix("inputs.")], value)
            for key, value in STEPS[name].get("env", {}).items()
        }
        line = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", SCRIPTS[name]]
        return subprocess.run(line, env=self.variables | filled, capture_output=True, text=True, check=False)

    def asked(self, **inputs: str) -> dict[str, object]:
        """Return what `dockstack up` is told, as it understands it."""
        done = self.run(UP, **inputs)
        assert done.returncode == 0, done.stdout + done.stderr
        (told,) = self.told()
        return told

    def told(self) -> list[dict[str, object]]:
        """Return all that `dockstack` was told, as it understands it."""
        calls = [call.split("\n") for call in self.notes.read_text().split("\n\n")]
        lines = [call for call in calls if f"{CHECKOUT}/dockstack" in call]
        return [_understood(*line[line.index(f"{CHECKOUT}/dockstack") + 1 :]) for line in lines]


def _understood(command: str, *rest: str) -> dict[str, object]:
    verb = cli.get_command(click.Context(cli), command)
    assert verb is not None
    return verb.make_context(command, list(rest)).params


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def attributes(told):
    return resolve(CATALOGUE, [command_line_values(told["assignments"])])


def test_it_is_a_composite_action_whose_steps_are_whole():
    assert ACTION["runs"]["using"] == "composite"
    assert ACTION["name"]
    assert ACTION["description"]
    for name, step in STEPS.items():
        assert ("uses" in step) != ("run" in step), name
        assert ("shell" in step) == ("run" in step), f"{name}: GitHub wants it in each, and only there"
    assert all(set(each) == {"description", "default"} for each in ACTION["inputs"].values())


def test_every_input_is_used_and_every_one_that_is_used_is_there():
    text = yaml.safe_dump(ACTION["runs"])
    assert set(re.findall(r"inputs\.(\w+)", text)) == set(ACTION["inputs"])
    assert set(re.findall(r"steps\.(\w+)\.", text)) <= {step.get("id") for step in STEPS.values()}


def test_no_input_becomes_part_of_a_script():
    assert not [name for name, script in SCRIPTS.items() if EXPRESSION.search(script)], "a variable of env carries it"


def test_shellcheck_has_no_complaint(tmp_path):
    for number, script in enumerate(SCRIPTS.values()):
        (tmp_path / f"{number}.sh").write_text(f"#!/bin/bash\nset -eo pipefail\n{script}")
    shellcheck = Path(sys.executable).parent / "shellcheck"
    line = [shellcheck, "--exclude=SC1091", *sorted(tmp_path.glob("*.sh"))]  # /etc/os-release is not looked at
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_inputs_it_asks_for_a_plain_cloud(runner):
    told = runner.asked()
    assert (told["hosts"], told["assignments"], told["skip_verify"]) == (1, (), False)


def test_inputs_become_attributes(runner):
    told = runner.asked(
        services="volumes telemetry",
        hosts="2",
        flavors="ci.small:1:512:2 ci.large:2:2048:4",
        release="2026.1",
        options="compatibility=devstack\n\nnetwork.dns=[192.0.2.1, 192.0.2.2]\n",
    )
    found = attributes(told)
    assert told["hosts"] == 2
    assert found.flag("volumes.enable")
    assert found.flag("telemetry.prometheus")
    assert found.items("compute.flavors") == ("ci.small:1:512:2", "ci.large:2:2048:4")
    assert found.text("release") == "2026.1"
    assert found.text("compatibility") == "devstack"
    assert found.items("network.dns") == ("192.0.2.1", "192.0.2.2")


def test_what_an_input_holds_is_one_argument_and_no_shell(runner, tmp_path):
    gone = tmp_path / "gone"
    told = runner.asked(options=f"region=$(touch {gone}) `touch {gone}`; touch {gone}")
    assert attributes(told).text("region") == f"$(touch {gone}) `touch {gone}`; touch {gone}"
    assert not gone.exists()
    with pytest.raises(AttributeRefusedError):
        attributes({"assignments": ("no.such=1",)})


def test_a_service_that_there_is_not_ends_it_by_its_name(runner):
    done = runner.run(UP, services="volumes swift")
    assert done.returncode == 1
    assert "::error::There is no service swift" in done.stdout
    assert "dockstack" not in runner.notes.read_text().replace("dockstack-packages", ""), "nothing was begun"


def test_the_following_steps_get_the_clouds_and_nobody_else_does(runner):
    assert runner.run(USE, cloud="devstack").returncode == 0
    own = runner.home / ".config/openstack/clouds.yaml"
    assert own.read_text() == "clouds: {}\n"
    assert own.stat().st_mode & 0o777 == 0o600
    assert runner.environment.read_text() == "OS_CLOUD=devstack\n"
    assert runner.run(USE).returncode == 0, "a second job on the same runner"


def test_credentials_of_somebody_elses_cloud_are_not_overwritten(runner):
    own = runner.home / ".config/openstack/clouds.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("clouds: {mine: {}}\n")
    done = runner.run(USE)
    assert done.returncode == 1
    assert "not overwritten" in done.stdout
    assert own.read_text() == "clouds: {mine: {}}\n"


def test_what_is_cached_goes_by_the_system_and_the_locks(runner):
    done = runner.run("Name what is cached")
    assert done.returncode == 0, done.stderr
    key = Path(runner.variables["GITHUB_OUTPUT"]).read_text()
    assert re.fullmatch(r"key=dockstack-[a-z]+-[\w.]+-\w+-[0-9a-f]{16}\n", key), key


NAME, BAKE = "Name the ready-made cloud", "Bake a cloud for the next run"


def kept(runner, name="the-key"):
    return runner.home / f".cache/dockstack-cloud/{name}.tar.zst"


def test_what_is_kept_goes_by_all_files_of_dockstack_and_that_of_another_version_goes(runner):
    kept(runner).parent.mkdir(parents=True)
    kept(runner).touch()
    assert runner.run(NAME).returncode == 0
    key = Path(runner.variables["GITHUB_OUTPUT"]).read_text()
    assert re.fullmatch(r"key=dockstack-cloud-[a-z]+-[\w.]+-\w+-default-[0-9a-f]{16}\n", key), key
    assert not kept(runner).exists()
    own = kept(runner, key.strip().removeprefix("key="))
    own.touch()
    assert runner.run(NAME).returncode == 0
    assert own.exists()


@pytest.mark.parametrize(
    "inputs", [{}, {"release": "2026.1", "services": "volumes", "options": "region=A b"}], ids=["none", "some"]
)
def test_a_cloud_is_baked_once_as_it_was_brought_up(runner, inputs):
    up = runner.asked(bake="true", **inputs)
    runner.notes.write_text("")
    assert runner.run(BAKE).returncode == 0
    (told,) = runner.told()
    assert (told["out"], told["assignments"]) == (kept(runner), up["assignments"])
    runner.notes.write_text("")
    kept(runner).parent.mkdir(parents=True)
    kept(runner).touch()
    assert runner.run(BAKE).returncode == 0
    assert not runner.notes.read_text()


def test_the_next_run_comes_up_from_it(runner):
    kept(runner).parent.mkdir(parents=True)
    kept(runner).touch()
    assert runner.asked(bake="true")["archive"] == kept(runner)


def test_one_that_does_not_do_is_left_away_and_baked_anew(runner):
    kept(runner).parent.mkdir(parents=True)
    kept(runner).touch()
    Path(f"{runner.notes}.refused").touch()
    done = runner.run(UP, bake="true")
    assert done.returncode == 0, done.stderr
    assert "::warning::" in done.stdout
    assert f"rm\n-f\n{kept(runner)}\n" in runner.notes.read_text()
    assert [told["archive"] for told in runner.told()] == [kept(runner), None]


def test_a_bake_that_fails_is_no_fault_of_the_job(runner):
    runner.asked(bake="true")
    Path(f"{runner.notes}.refused").touch()
    done = runner.run(BAKE)
    assert done.returncode == 0, done.stderr
    assert "::warning::" in done.stdout


def test_without_one_it_comes_up_as_ever(runner):
    assert runner.asked(bake="true")["archive"] is None


@pytest.mark.parametrize("language", ["GitHub", "GitLab"])
def test_the_guides_examples_name_what_there_is(language):
    section = (CHECKOUT / "docs/ci.md").read_text().partition(f"## {language}\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    told = yaml.safe_load(example)
    if language == "GitHub":
        (step,) = [step for step in told["jobs"]["functional"]["steps"] if "/dockstack@" in step.get("uses", "")]
        assert set(step["with"]) <= set(ACTION["inputs"])
        assert set(ACTION["inputs"]) == set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
        return
    job = told["functional"]
    for line in (line for part in ("script", "after_script") for line in job[part]):
        for command, rest in re.findall(r"dockstack (up|clean)( [^&|]*)?", line):
            assert cli.get_command(click.Context(cli), command).make_context(command, shlex.split(rest)), line
