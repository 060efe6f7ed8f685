# SPDX-License-Identifier: Apache-2.0
"""Python environments on a node: a lock installed whole, and our own wheel on top."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.node.connected_node import ConnectedNode

WHEELS = f"{paths.OPT}/wheels"
NODE_UV = f"{paths.OPT}/uv"
EPOCH = (1980, 1, 1, 0, 0, 0)


def lock_text(name: str) -> str:
    """Return a lock that ships with dockstack: "cli", or one of a release, as "2026.2/openstack"."""
    return (resources.files("dockstack.deploy") / "locks" / f"{name}.txt").read_text()


def lock_entry(lock: str, package: str) -> str:
    """Return what a lock says about one package: its version, with hashes.

    Raises:
        LookupError: nothing.
    """
    found = re.search(rf"^{re.escape(package)}==(?:.*\\\n)*.*", lock_text(lock), flags=re.MULTILINE)
    if found is None:
        raise LookupError(f"{package} is not in the lock {lock}")
    return found.group() + "\n"


def uv_program(machine: ConnectedNode) -> str:
    """Return uv on the node; on this machine it is the one beside the running command line."""
    beside = Path(sys.prefix) / "bin" / "uv"
    if machine.node.connector == "@local" and beside.exists():
        return str(beside)
    program = f"{NODE_UV}/bin/uv"
    if not machine.exists(program):
        machine.packages(*machine.distribution.packages_of("venv"))
        machine.manifest.made("directory", NODE_UV)
        line = f"{machine.distribution.python} -m venv --clear {NODE_UV}"
        line += f" && {NODE_UV}/bin/pip install -q --require-hashes -r /dev/stdin"
        machine.command(line, stdin=lock_entry("cli", "uv"))
    return program


def index_environment() -> dict[str, str]:
    """Return the variable that gives uv pip's package index, but no index with a password: environments can be read."""
    index = os.environ.get("PIP_INDEX_URL", "")
    if not index or "UV_DEFAULT_INDEX" in os.environ or "@" in index:
        return {}
    return {"UV_DEFAULT_INDEX": index}


def ensure_environment(machine: ConnectedNode, venv: str, lock: str, *, title: str) -> bool:
    """Have a virtual environment with exactly the versions of a lock, byte-compiled; return whether it changed.

    The marker ``.dockstack-lock`` is written last: an environment whose installation was killed is repaired.
    """
    wanted = hashlib.sha256(lock.encode()).hexdigest() + "\n"
    marker, unfinished = f"{venv}/.dockstack-lock", f"{venv}/.dockstack-unfinished"
    question = f"test -x {venv}/bin/python && ! test -e {unfinished} && cat {marker}"
    if machine.run(question, check=False).stdout.strip() == wanted.strip():
        return False
    machine.manifest.made("directory", venv)
    _take_baked(machine, venv)
    if machine.run(question, check=False).stdout.strip() == wanted.strip():
        return True
    uv, environment = uv_program(machine), index_environment()
    broken = machine.exists(unfinished)
    machine.directory(venv)
    machine.command(["touch", unfinished])
    machine.command(
        [uv, "venv", "-q", "--allow-existing", "--python", machine.distribution.python, venv],
        unless=f"test -x {venv}/bin/python && {venv}/bin/python -c ''",
        environment=environment,
    )
    install = [
        uv,
        "pip",
        "install",
        "-q",
        "--compile-bytecode",
        "--require-hashes",
        *(["--reinstall"] if broken else []),
    ]
    install += ["--python", f"{venv}/bin/python", "-r", "-"]
    machine.command(install, title=title, stdin=lock, environment=environment)
    machine.file(marker, wanted)
    machine.command(["rm", "-f", unfinished])
    return True


def _take_baked(machine: ConnectedNode, venv: str) -> None:
    """Unpack the environment of the archive that this machine comes up from, if there is one."""
    if machine.baked is None:
        return
    machine.say("Unpacking the environment")
    place = Path(venv)
    machine.baked.unpack(place.name, place)
    machine.changes += 1


def ensure_wheel(machine: ConnectedNode, venv: str, *, extras_installed: str) -> bool:
    """Have the running dockstack installed in an environment; return whether it changed.

    Args:
        machine: the node.
        venv: the environment; its lock holds all that dockstack needs there.
        extras_installed: marker file that receives the version's hash.
    """
    version = source_hash()
    wanted = version + "\n"
    if machine.run(["cat", extras_installed], check=False).stdout == version:
        return False
    wheel = f"{WHEELS}/{version[:16]}/{_wheel_name()}"
    if not machine.exists(wheel):
        machine.directory(WHEELS)
        machine.directory(os.path.dirname(wheel))  # noqa: PTH120 - a path on the node
        machine.file(wheel, build_wheel())
    line = [uv_program(machine), "pip", "install", "-q", "--offline", "--no-deps", "--reinstall", "--compile-bytecode"]
    machine.command([*line, "--python", f"{venv}/bin/python", wheel])
    machine.file(extras_installed, wanted)
    return True


def checkout() -> Path | None:
    """Return the checkout that dockstack runs from, or None if it is installed."""
    root = Path(__file__).resolve().parents[4]
    return root if (root / "pyproject.toml").exists() and (root / "src" / "dockstack").is_dir() else None


def source_hash() -> str:
    """Return the hash of all files that make the running dockstack: a change of code is a change of version.

    It is the same of a checkout and of what was installed from it, so that a run of either finds its work done.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_package_files().items()):
        if not name.startswith("dockstack/"):
            continue  # an installer's notes
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def build_wheel() -> bytes:
    """Return a wheel of the running dockstack, built from the checkout or packed from what is installed.

    Raises:
        DockstackError: the checkout does not build.
    """
    root = checkout()
    if root is None:
        return _pack_installed()
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "source"
        shutil.copytree(root / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            if (root / name).exists():
                shutil.copy(root / name, source / name)
            elif name == "README.md":
                (source / name).write_text("dockstack\n")
        line = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory]
        built = subprocess.run(line, cwd=source, capture_output=True, text=True, check=False)
        if built.returncode != 0:
            raise DockstackError("dockstack's wheel does not build.", "Is the checkout whole?", built.stderr[-2000:])
        return next(Path(directory).glob("*.whl")).read_bytes()


def named_wheel() -> tuple[str, bytes]:
    """Return the wheel of the running dockstack with the name that installers ask of its file."""
    return _wheel_name(), build_wheel()


def _wheel_name() -> str:
    return f"dockstack-{_version()}-py3-none-any.whl"


def _version() -> str:
    root = checkout()
    if root is None:
        return metadata.version("dockstack")
    lines = (root / "pyproject.toml").read_text().splitlines()
    return next(line.partition("=")[2].strip().strip('"') for line in lines if line.startswith("version"))


def _package_files() -> dict[str, Path]:
    """Return name in the wheel -> file, of the checkout or of the installed distribution."""
    root = checkout()
    if root is not None:
        source = root / "src"
        files = {str(path.relative_to(source)): path for path in source.rglob("*") if path.is_file()}
        return {name: path for name, path in files.items() if "__pycache__" not in name}
    listed = metadata.distribution("dockstack").files or []
    chosen = [file for file in listed if ".." not in file.parts and "__pycache__" not in file.parts]
    unwanted = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}
    return {str(file): Path(str(file.locate())) for file in chosen if file.name not in unwanted}


def _pack_installed() -> bytes:
    """Pack the installed distribution into a wheel again: installing it elsewhere needs no checkout."""
    files = _package_files()
    info = next(name.split("/")[0] for name in files if ".dist-info/" in name)
    with tempfile.TemporaryFile() as stream:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, path in sorted(files.items()):
                archive.writestr(zipfile.ZipInfo(name, EPOCH), path.read_bytes())
            record = "".join(f"{name},,\n" for name in [*sorted(files), f"{info}/RECORD"])
            archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", EPOCH), record)
        stream.seek(0)
        return stream.read()


def shim(program: str) -> str:
    """Return a script that runs a program of an environment, for /usr/local/bin."""
    return f'#!/bin/sh\n# Made by dockstack; `dockstack clean` removes it.\nexec {shlex.quote(program)} "$@"\n'
