# SPDX-License-Identifier: Apache-2.0
"""Python environments on a node: a lock installed whole, and our own wheel on top."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.node.own_package import build_wheel, lock_text, source_hash, wheel_name

if TYPE_CHECKING:
    from dockstack.deploy.node.connected_node import ConnectedNode

WHEELS = f"{paths.OPT}/wheels"
NODE_UV = f"{paths.OPT}/uv"


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
        # What a lock leaves out on purpose (without.in) is missing no hash; what it names is all there is to be.
        "--no-deps",
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
    wheel = f"{WHEELS}/{version[:16]}/{wheel_name()}"
    if not machine.exists(wheel):
        machine.directory(WHEELS)
        machine.directory(os.path.dirname(wheel))  # noqa: PTH120 - a path on the node
        machine.file(wheel, build_wheel())
    line = [uv_program(machine), "pip", "install", "-q", "--offline", "--no-deps", "--reinstall", "--compile-bytecode"]
    machine.command([*line, "--python", f"{venv}/bin/python", wheel])
    machine.file(extras_installed, wanted)
    return True


def shim(program: str) -> str:
    """Return a script that runs a program of an environment, for /usr/local/bin."""
    return f'#!/bin/sh\n# Made by dockstack; `dockstack clean` removes it.\nexec {shlex.quote(program)} "$@"\n'
