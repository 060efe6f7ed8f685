# SPDX-License-Identifier: Apache-2.0
"""No command fails half-way for want of a program: the table names all that the code calls."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import dockstack
from dockstack.cli import tempest
from dockstack.deploy import external_programs
from dockstack.deploy.distributions import DEBIAN_12
from dockstack.deploy.external_programs import MINIMAL, PROGRAMS, SUPERVISORS, require
from dockstack.deploy.recipes import packages
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

SOURCES = Path(dockstack.__file__).parent
CALLS = {"run", "command", "Popen", "ask"}
SHELL = {
    *(
        "break",
        "case",
        "command",
        "cd",
        "continue",
        "do",
        "done",
        "elif",
        "else",
        "esac",
        "exec",
        "exit",
        "export",
        "fi",
        "for",
        "if",
        "in",
    ),
    *("read", "set", "shift", "then", "unset", "wait", "while"),
}
COMMAND = re.compile(
    r"(?:^|[|&;({]|\bthen\b|\bdo\b|\belse\b|\$\()\s*(?:!\s*|if\s+|exec\s+|while\s+)*([a-z][a-z0-9_.+-]*)(?=\s|$)"
)
# What is called inside of servers, whose images bring it, and click's own commands
INSIDE = ("verify/exercises", "verify/shell.py", "compute", "cli")
ASKED = re.compile(r"packages_of\(([^)]*)\)")
CODE = {"import", "print"}  # of Python programs that are given to an interpreter


def words_of(node: ast.Call) -> list[str]:
    """Return the programs that a call names, as far as one can see."""
    if getattr(node.func, "attr", getattr(node.func, "id", "")) not in CALLS or not node.args:
        return []
    first = node.args[0]
    if isinstance(first, ast.List | ast.Tuple):
        named = first.elts[0] if first.elts else None
        return [str(named.value)] if isinstance(named, ast.Constant) else []
    line = text_of(first)
    return COMMAND.findall(line) if line else []


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "X" for part in node.values)
    return ""


def called() -> dict[str, str]:
    """Return program -> a file that calls it on the machine itself."""
    found: dict[str, str] = {}
    for path in SOURCES.rglob("*.py"):
        name = str(path.relative_to(SOURCES))
        if name.startswith(INSIDE):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                found |= {word.rpartition("/")[2]: name for word in words_of(node)}
    for path in SOURCES.rglob("deploy/**/*.sh"):
        whole = path.read_text().replace("\\\n", " ")  # a line that goes on is one
        lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in whole.splitlines()]
        own = set(re.findall(r"^([a-z_]+)\(\)", "\n".join(lines), flags=re.MULTILINE))
        found |= {word: path.name for line in lines for word in COMMAND.findall(line) if word not in own}
    return {word: where for word, where in found.items() if word not in SHELL | CODE}


def test_the_table_names_all_that_the_code_calls() -> None:
    known = MINIMAL | SUPERVISORS | {one.name for one in PROGRAMS}
    assert {word: where for word, where in called().items() if word not in known} == {}


def test_up_brings_what_it_needs() -> None:
    recipe = {*packages.EVERYWHERE, *packages.CONTROLLER, *packages.METADATA, *packages.COMPUTE, *packages.MOUNTS}
    recipe |= {*packages.DECRYPTION}
    said = "".join(path.read_text() for path in (SOURCES / "deploy").rglob("*.py") if path.name != "distributions.py")
    brought = {*DEBIAN_12.packages_of(*recipe, *re.findall(r'"([\w.-]+)"', " ".join(ASKED.findall(said))))}
    needed = {one.name for one in PROGRAMS if "up" in one.needed_by} - {"python3"}  # the bootstrap runs on it
    assert {name for name in needed if not brought & {*DEBIAN_12.packages_of(name)}} == {"lxcfs"}  # by lxcfs.NAME
    assert {"ping", "modprobe"} <= recipe  # what `tempest` needs; and the switch's kernel module is looked for


def test_what_is_missing_is_said_with_its_package(monkeypatch) -> None:
    monkeypatch.setattr(external_programs.shutil, "which", lambda *_, **__: None)
    with pytest.raises(DockstackError, match="`dockstack tempest` needs ping") as caught:
        require("tempest")
    assert caught.value.resolution == "apt-get install --no-install-recommends iputils-ping"
    monkeypatch.undo()
    require("verify")


def test_tempest_says_it_before_it_starts(monkeypatch) -> None:
    monkeypatch.setattr(external_programs.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(tempest, "Workspace", lambda *_: pytest.fail("it has started"))
    result = CliRunner().invoke(tempest.tempest, [])
    assert isinstance(result.exception, DockstackError)
    assert "iputils-ping" in result.exception.resolution
