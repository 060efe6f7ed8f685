# SPDX-License-Identifier: Apache-2.0
"""ARCHITECTURE.md and the guide to a new service tell the truth: what they name is there, and is found as they say."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from dockstack.deploy.recipes.stage import check_graph
from dockstack.deploy.run.plan import node_stages
from dockstack.deploy.wanted.inventory import load

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


def test_what_it_calls_coming_is_not_all_there():
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+) \|", TEXT.partition("## Where the coming parts stand")[2], re.MULTILINE)
    assert rows
    for row in rows:
        named = re.findall(r"`([\w/.]+)`", row)
        places = [SOURCE / each for each in named] + [SOURCE / "compute" / each for each in named]
        there = [each for each in places if each.exists() or each.with_suffix(".py").exists()]
        assert len(there) < len(named), f"{row} is there"


# -- docs/adding-a-service.md ----------------------------------------------------------------------------------------

GUIDE = (CHECKOUT / "docs/adding-a-service.md").read_text()
(RECIPE,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
COMING = {("programs", "heat"), ("desired_state", "orchestration")}  # what the guide says is not there yet


@pytest.mark.parametrize("place", PLACE.findall(GUIDE), ids=":".join)
def test_a_function_that_it_names_is_there(place):
    assert source_of(place)


def test_a_file_that_it_names_is_there():
    named = re.findall(r"`((?:tests|verify|deploy)/[\w/.-]+\.py)`", GUIDE)
    assert len(named) > 5
    assert not [name for name in named if not (CHECKOUT / name).exists() and not (SOURCE / name).exists()]


def test_what_its_recipe_imports_and_calls_is_there():
    tree = ast.parse(RECIPE)
    modules = {}
    for each in ast.walk(tree):
        if isinstance(each, ast.ImportFrom) and each.module != "__future__":
            origin = importlib.import_module(each.module)
            for alias in each.names:
                if not hasattr(origin, alias.name):
                    importlib.import_module(f"{each.module}.{alias.name}")
                modules[alias.name] = getattr(origin, alias.name)
    asked = {
        (each.value.id, each.attr)
        for each in ast.walk(tree)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id in modules
    }
    missing = {(name, attribute) for name, attribute in asked if not hasattr(modules[name], attribute)}
    assert missing == COMING, "what is there meanwhile, or is not there any more"


@pytest.mark.parametrize("wanted", [True, False])
def test_its_stages_have_a_place_among_the_others(wanted):
    recipe: dict[str, object] = {}
    exec(compile(RECIPE, str(Path("adding-a-service.md")), "exec"), recipe)  # noqa: S102 - the guide is ours
    node = load(None, ()).local
    flags = SimpleNamespace(flag=lambda name: {"heat.enable": wanted}[name])
    stages = recipe["stages"](SimpleNamespace(has=node.has, attributes=flags))
    assert [stage.apply.__name__ for stage in stages][-1] == ("start" if wanted else "stop")
    assert len(check_graph((*node_stages(node), *stages))) == len(node_stages(node)) + len(stages)
