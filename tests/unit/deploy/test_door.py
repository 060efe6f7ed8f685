# SPDX-License-Identifier: Apache-2.0
"""Nova's door, put into packages named nova by real interpreters that import them in each way there is."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from dockstack.deploy import door
from dockstack.deploy.door import State
from dockstack.deploy.node import own_package
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

FORMER = b'''\
# SPDX-License-Identifier: Apache-2.0
"""Nova's door: ``compute_driver = docker.DockerDriver`` resolves here (nova/virt/driver.py:load_compute_driver)."""

from dockstack.compute.driver import DockerDriver

__all__ = ["DockerDriver"]
'''
FOREIGN = '# Copyright (c) 2013 somebody\n"""A driver of theirs."""\n'
# What an editable installation of today leaves in site-packages: a finder that Python asks last.
FINDER = """
import importlib.machinery, importlib.util, sys
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "nova":
            return importlib.util.spec_from_file_location(name, {init!r}, submodule_search_locations=[{place!r}])
sys.meta_path.append(Finder)
"""


class Environment:
    """A virtual environment without pip, and a Nova of three files."""

    def __init__(self, template: Path, directory: Path) -> None:
        shutil.copytree(template, directory, symlinks=True)
        self.python = str(directory / "bin/python")
        (self.packages,) = (directory / "lib").glob("python3*/site-packages")

    def nova(self, parent: Path) -> Path:
        """Write a package of Nova's shape; it would not survive being imported to be found."""
        virt = parent / "nova/virt"
        virt.mkdir(parents=True)
        (parent / "nova/__init__.py").touch()
        (virt / "__init__.py").touch()
        (virt / "driver.py").write_text("class ComputeDriver: pass\n")
        return virt / "docker.py"

    def dockstack(self, source: str = "") -> None:
        """Install the driver beside it."""
        compute = self.packages / "dockstack/compute"
        compute.mkdir(parents=True, exist_ok=True)
        default = "from nova.virt.driver import ComputeDriver\nclass DockerDriver(ComputeDriver): pass\n"
        (compute / "driver.py").write_text(source or default)

    def where_nova_is(self) -> str:
        """What nova-compute would import."""
        question = [self.python, "-E", "-c", "import nova; print(nova.__file__)"]
        return subprocess.run(question, cwd="/", capture_output=True, text=True, check=False).stdout.strip()

    def install(self, wheel: Path) -> None:
        """Install a wheel as `dockstack up` does, and whatever of its earlier version was there goes."""
        uv = Path(sys.prefix) / "bin/uv"
        line = [str(uv), "pip", "install", "-q", "--offline", "--no-deps", "--reinstall", "--python", self.python]
        subprocess.run([*line, str(wheel)], check=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    directory = tmp_path_factory.mktemp("template") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    return directory


@pytest.fixture
def environment(template, tmp_path):
    return Environment(template, tmp_path / "venv")


def in_site_packages(environment: Environment, _checkout: Path) -> Path:
    return environment.nova(environment.packages)


def on_the_path(environment: Environment, checkout: Path) -> Path:
    (environment.packages / "nova.pth").write_text(f"{checkout}\n")
    return environment.nova(checkout)


def by_a_finder(environment: Environment, checkout: Path) -> Path:
    place = checkout / "nova"
    (environment.packages / "__editable___nova_finder.py").write_text(
        FINDER.format(init=str(place / "__init__.py"), place=str(place))
    )
    (environment.packages / "__editable__.nova.pth").write_text("import __editable___nova_finder\n")
    return environment.nova(checkout)


@pytest.fixture(params=[in_site_packages, on_the_path, by_a_finder], ids=lambda way: way.__name__)
def place(request, environment, tmp_path):
    """Where the door belongs, for each way to install Nova."""
    return request.param(environment, tmp_path / "checkout")


def dockstack(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "dockstack.cli", "driver", *arguments]
    return subprocess.run(line, cwd=Path(door.__file__).parents[2], capture_output=True, text=True, check=False)


def wheel(directory: Path, files: dict[str, bytes], version: str = "0.1.0") -> Path:
    path = directory / f"dockstack-{version}-py3-none-any.whl"
    info = f"dockstack-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: dockstack\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


# -- each way to install Nova -------------------------------------------------------------------------------------


def test_it_goes_where_that_python_imports_nova_from_and_away_again(environment, place):
    nova = environment.where_nova_is()
    assert door.look(environment.python).state is State.ABSENT
    assert door.install(environment.python) == (door.Door(place, State.CURRENT), True)
    assert place.read_bytes() == door.content()
    assert stat.S_IMODE(place.stat().st_mode) == 0o644
    assert environment.where_nova_is() == nova  # it hides none
    assert door.remove(environment.python) == (place,)
    assert {path.name for path in place.parent.iterdir()} == {"__init__.py", "driver.py"}
    assert door.remove(environment.python) == ()


def test_installing_again_writes_nothing(environment, place):
    door.install(environment.python)
    before = place.stat()
    assert door.install(environment.python) == (door.Door(place, State.CURRENT), False)
    assert (place.stat().st_ino, place.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_somebody_else_s_file_is_neither_overwritten_nor_removed(environment, place):
    place.write_text(FOREIGN)
    with pytest.raises(DockstackError, match=r"not ours.*begins with 'Copyright \(c\) 2013 somebody'"):
        door.install(environment.python)
    assert door.look(environment.python).state is State.FOREIGN
    assert door.remove(environment.python) == ()
    assert place.read_text() == FOREIGN


@pytest.mark.parametrize("old", [FORMER, door.content() + b"# changed by hand\n"])
def test_a_door_of_ours_is_renewed_and_removed(environment, place, old):
    place.write_bytes(old)
    assert door.look(environment.python).state is State.OUTDATED
    assert door.install(environment.python)[1]
    assert place.read_bytes() == door.content()
    place.write_bytes(old)
    assert door.remove(environment.python) == (place,)


def test_whether_nova_can_load_it(environment, place):
    environment.dockstack()
    door.install(environment.python)
    assert door.load(environment.python) == ""
    compiled = list(place.parent.glob("__pycache__/docker.*"))
    assert compiled
    assert door.remove(environment.python) == (place, *compiled)
    environment.dockstack("class DockerDriver: pass\n")
    door.install(environment.python)
    assert "is no compute driver" in door.load(environment.python)


# -- what stands in the way ---------------------------------------------------------------------------------------


def test_a_link_into_a_checkout_that_is_gone_is_replaced(environment, tmp_path):
    place = environment.nova(environment.packages)
    place.symlink_to(tmp_path / "gone")
    assert door.install(environment.python)[1]
    assert not place.is_symlink()
    assert not (tmp_path / "gone").exists()


def test_a_link_is_replaced_and_not_what_it_leads_to(environment, tmp_path):
    place = environment.nova(environment.packages)
    (tmp_path / "old.py").write_bytes(FORMER)
    place.symlink_to(tmp_path / "old.py")
    door.install(environment.python)
    assert (tmp_path / "old.py").read_bytes() == FORMER
    assert place.read_bytes() == door.content()


def test_a_foreign_file_that_a_package_lists_is_said_to_be_its(environment):
    environment.nova(environment.packages).write_text(FOREIGN)
    info = environment.packages / "nova_docker-0.0.1.dist-info"
    info.mkdir()
    (info / "RECORD").write_text("nova/virt/docker.py,sha256=x,1\n")
    with pytest.raises(DockstackError, match=r"installed package nova_docker 0\.0\.1"):
        door.install(environment.python)


def test_a_door_that_outlived_its_nova_hides_a_checkout_until_it_is_removed(environment, tmp_path):
    place = by_a_finder(environment, tmp_path / "checkout")
    left = environment.packages / "nova/virt/docker.py"
    left.parent.mkdir(parents=True)
    left.write_bytes(FORMER)
    place.write_bytes(door.content())
    assert environment.where_nova_is() == "None"  # this is what a wheel with the door in it does
    with pytest.raises(DockstackError, match=r"bare directory .*/nova, which hides") as refused:
        door.install(environment.python)
    assert f"driver remove --python {environment.python}" in refused.value.resolution
    assert door.remove(environment.python) == (left, left.parent, left.parent.parent, place)
    assert environment.where_nova_is() == str(tmp_path / "checkout/nova/__init__.py")
    assert door.install(environment.python)[0].path == place


def test_bare_directories_with_something_of_others_stay(environment):
    left = environment.packages / "nova/virt/docker.py"
    left.parent.mkdir(parents=True)
    left.write_bytes(FORMER)
    (left.parent.parent / "notes").touch()
    assert door.remove(environment.python) == (left, left.parent)
    assert door.remove(environment.python) == ()
    assert (environment.packages / "nova/notes").exists()


def test_bytecode_that_outlived_the_door_and_its_nova_goes_too(environment):
    compiled = environment.packages / "nova/virt/__pycache__/docker.cpython-311.pyc"
    compiled.parent.mkdir(parents=True)
    compiled.touch()
    door.remove(environment.python)
    assert not (environment.packages / "nova").exists()


def test_a_package_of_another_nova_gets_none(environment):
    (environment.packages / "nova").mkdir()
    (environment.packages / "nova/__init__.py").touch()
    with pytest.raises(DockstackError, match="not OpenStack's Nova"):
        door.install(environment.python)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_it_belongs_to_whom_the_package_belongs(environment):
    place = environment.nova(environment.packages)
    os.chown(place.parent, 12345, 23456)
    door.install(environment.python)
    assert (place.stat().st_uid, place.stat().st_gid) == (12345, 23456)


@pytest.fixture
def nobody(monkeypatch):
    """Go on as a user who is not root, in a directory that such a user may enter."""
    data = door.content()
    monkeypatch.setattr(door, "content", lambda: data)  # the checkout may be root's alone
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        root = os.geteuid() == 0
        yield Path(directory), lambda: root and os.seteuid(65534)
        if root:
            os.seteuid(0)


def test_a_directory_that_takes_no_file(template, nobody):
    directory, become_nobody = nobody
    one = Environment(template, directory / "venv")
    place = one.nova(one.packages)
    place.parent.chmod(0o555)
    become_nobody()
    with pytest.raises(DockstackError, match="virt cannot be written: Permission denied") as refused:
        door.install(one.python)
    assert refused.value.resolution.startswith("Run this as root")
    assert {path.name for path in place.parent.iterdir()} == {"__init__.py", "driver.py"}


@pytest.mark.parametrize("verb", [door.install, door.remove, door.look])
def test_no_nova_no_door(environment, verb):
    with pytest.raises(DockstackError, match="has no Nova") as refused:
        verb(environment.python)
    assert "nova-compute" in refused.value.resolution


def test_the_current_directory_is_not_where_nova_compute_looks(environment, tmp_path, monkeypatch):
    environment.nova(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DockstackError, match="has no Nova"):
        door.look(environment.python)


def test_the_shell_s_own_path_is_not_that_of_nova_compute_either(environment, tmp_path, monkeypatch):
    place = environment.nova(environment.packages)
    environment.nova(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "here"))
    assert door.look(environment.python).path == place


@pytest.mark.parametrize(
    ("python", "why"),
    [("/no/such/python", "is not there"), ("/etc/passwd", "not a program"), ("true", "does not answer as a Python")],
)
def test_what_is_no_python_is_said_to_be_none(python, why):
    with pytest.raises(DockstackError, match=why) as refused:
        door.look(python)
    assert "--python" in refused.value.resolution


def test_a_program_that_fails_is_quoted(tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'no such option -c' >&2\nexit 2\n")
    program.chmod(0o755)
    with pytest.raises(DockstackError, match="does not answer as a Python") as refused:
        door.look(str(program))
    assert refused.value.details == "no such option -c"


def test_an_environment_s_directory_leads_to_its_python(environment):
    directory = str(Path(environment.python).parents[1])
    with pytest.raises(DockstackError, match="is a directory") as refused:
        door.look(directory)
    assert environment.python in refused.value.resolution


# -- upgrades and wheels ------------------------------------------------------------------------------------------


def test_the_wheel_holds_nothing_but_our_package(tmp_path):
    path = tmp_path / "dockstack.whl"
    path.write_bytes(own_package.build_wheel())
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert archive.read("dockstack/compute/door.py") == door.content()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"dockstack"}


def test_a_new_wheel_takes_the_old_one_s_door_along_so_the_door_comes_after_it(environment, tmp_path):
    place = environment.nova(environment.packages)
    environment.install(wheel(tmp_path, {"nova/virt/docker.py": FORMER}))
    found, changed = door.install(environment.python)
    assert changed
    assert found.package == "dockstack 0.1.0"  # so it is said
    environment.install(wheel(tmp_path, {"dockstack/__init__.py": b""}, "0.2.0"))
    assert door.look(environment.python).state is State.ABSENT
    assert door.install(environment.python)[1]
    environment.install(wheel(tmp_path, {"dockstack/__init__.py": b""}, "0.3.0"))
    assert door.look(environment.python) == door.Door(place, State.CURRENT)
    assert door.look(environment.python).package == ""


# -- the command --------------------------------------------------------------------------------------------------


def test_the_command_from_absent_to_loaded_and_back(environment):
    environment.nova(environment.packages)
    named = ("--python", environment.python)
    missing = dockstack("check", *named)
    assert missing.returncode == 1
    assert "docker.py: not there" in missing.stdout
    assert f"what to do: dockstack driver install --python {environment.python}" in missing.stderr
    assert dockstack("install", *named).stdout.startswith("Installed ")
    assert dockstack("install", *named).stdout.startswith("Nothing to do: ")
    assert dockstack("check", "--no-load", *named).returncode == 0
    unloadable = dockstack("check", *named)
    assert unloadable.returncode == 1
    assert "No module named 'dockstack'" in unloadable.stderr
    environment.dockstack()
    assert "Nova can load it" in dockstack("check", *named).stdout
    assert dockstack("remove", *named).stdout.startswith("Removed ")
    again = dockstack("remove", *named)
    assert (again.returncode, again.stdout[:13]) == (0, "Nothing to do")


def test_without_a_name_it_is_the_python_that_runs_dockstack():
    refused = dockstack("install")
    assert refused.returncode == 1
    assert sys.executable in refused.stderr
