# SPDX-License-Identifier: Apache-2.0
"""ARCHITECTURE.md tells the truth: what it names is there, and is found as it says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE = CHECKOUT / "src" / "dockstack"
TEXT = (CHECKOUT / "ARCHITECTURE.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in TEXT.split("\n## ")}
PLACE = re.compile(r"`([\w/.-]+\.(?:py|sh)):([\w.]+)`")
HOPS = [tuple(PLACE.findall(line)) for line in SECTIONS["Found in two hops"].splitlines() if PLACE.search(line)]
NODES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def source_of(place: tuple[str, str]) -> str:
    """Return the text of a function: of a class, written Class.method, or of a shell script."""
    path, name = place
    text = (SOURCE / path).read_text()
    if path.endswith(".sh"):
        found = re.search(rf"^{re.escape(name)}\(\) \{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
        return found[0] if found else ""
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        body = [each for each in ast.iter_child_nodes(node) if isinstance(each, NODES) and each.name == part]
        if not body:
            return ""
        node = body[0]
    return ast.get_source_segment(text, node) or ""


@pytest.mark.parametrize("hops", HOPS, ids=lambda hops: hops[-1][1])
def test_a_stranger_finds_it_in_two_hops(hops):
    first, second = hops
    assert source_of(first), f"ARCHITECTURE.md names {first}, which is not there"
    assert source_of(second), f"ARCHITECTURE.md names {second}, which is not there"
    target = Path(second[0]).stem if second[0].endswith(".sh") else second[1].rpartition(".")[2]
    assert re.search(rf"\b{re.escape(target)}\b", source_of(first)), f"{first} does not lead to {second}"


def test_there_are_ten_of_them():
    assert len(HOPS) >= 10


def test_the_tree_names_what_is_there():
    """Two blanks of indentation are a floor; a line may name several entries."""
    block = TEXT.split("```")[1]
    path = {0: CHECKOUT, 2: SOURCE}
    for line in block.splitlines():
        found = re.match(r"( *)((?:[\w.-]+(?:/[\w.-]+)*/? ?)+?)(?:  |$)", line)
        if not found:
            continue
        depth = len(found[1])
        for entry in found[2].split():
            there = path[depth] / entry
            assert there.exists(), f"ARCHITECTURE.md shows {entry} below {path[depth].name}"
            if entry.endswith("/") and entry != "src/dockstack/":
                path[depth + 2] = there


def test_every_folder_is_in_the_tree():
    block = TEXT.split("```")[1]
    for parent in (SOURCE, SOURCE / "compute", SOURCE / "deploy"):
        for folder in (path for path in parent.iterdir() if path.is_dir() and path.name != "__pycache__"):
            assert f" {folder.name}/ " in block, f"ARCHITECTURE.md does not show {folder.name}/"
