# SPDX-License-Identifier: Apache-2.0
"""Which of Tempest's tests to run."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Tests that take their class's floating IP for a server of their own, away from the next test of the class that logs
# in, which would fail. They are run when all others are done.
APART = frozenset({"tempest.api.compute.servers.test_server_actions.ServerActionsTestJSON.test_change_server_password"})

# Tests whose flavor has swap, and what is said of them where a host refuses such a flavor.
NEED_SWAP = frozenset({"tempest.api.compute.admin.test_migrations.MigrationsAdminTest.test_cold_migration_with_swap"})
NO_SWAP = "Its server has swap, and this machine has none (`swapon --show` lists it)"

# Tests that mount a volume which they format as vfat, as nothing configures.
_ALL_HOSTS = "tempest.scenario.test_instances_with_cinder_volumes.TestInstancesWithCinderVolumes"
NEED_VFAT = frozenset({f"{_ALL_HOSTS}.test_instances_with_cinder_volumes_on_all_compute_nodes"})
NO_VFAT = "Its servers mount vfat, and this machine's kernel has none (`modprobe vfat` loads it where there is one)"

# Tests that boot a signed image: in a round of their own, as accounts that are there before them (signing.py).
SIGNED = frozenset({"tempest.api.compute.servers.test_servers.ServerShowV263Test.test_show_update_rebuild_list_server"})

_TAGS = re.compile(r"\[(.*)\]$")


@dataclass(frozen=True)
class Choice:
    """What a person wants to run.

    Attributes:
        patterns: regular expressions, any of which a test's name must contain; none: all tests.
        smoke: only those that Tempest calls smoke tests.
        names: only these, without tags; None: all.
    """

    patterns: tuple[str, ...] = ()
    smoke: bool = False
    names: frozenset[str] | None = None


@dataclass(frozen=True)
class Selection:
    """The tests to run, and those that were chosen but are left out, with the reason.

    Attributes:
        tests: ids with their tags, as the runner takes them.
        excluded: name -> why it is not run, a sentence.
    """

    tests: tuple[str, ...]
    excluded: Mapping[str, str]

    @property
    def rounds(self) -> tuple[tuple[str, ...], ...]:
        """The tests in the order in which they may run, one round after the other."""
        apart, signed = (tuple(test for test in self.tests if name_of(test) in names) for names in (APART, SIGNED))
        others = tuple(test for test in self.tests if test not in (*apart, *signed))
        return tuple(each for each in (others, apart, signed) if each)

    @property
    def signed(self) -> bool:
        """Whether one of them boots a signed image."""
        return any(name_of(test) in SIGNED for test in self.tests)


def name_of(test: str) -> str:
    """Return a test's name: its id without tags."""
    return _TAGS.sub("", test)


def class_of(name: str) -> str:
    """Return the class that a test, or the set-up of a class ("setUpClass (module.Class)"), belongs to."""
    inside = re.search(r"\((.*)\)$", name)
    return inside[1] if inside else name.rpartition(".")[0]


def select(tests: Iterable[str], choice: Choice, excluded: Mapping[str, str]) -> Selection:
    """Choose tests.

    Args:
        tests: all that there are.
        choice: what a person wants.
        excluded: name -> why it is not run, whoever wants it.

    Raises:
        DockstackError: a pattern is no regular expression, or nothing is left.
    """
    try:
        patterns = [re.compile(pattern) for pattern in choice.patterns]
    except re.error as error:
        raise DockstackError(
            f"{error.pattern!r} is no regular expression: {error.msg}.", "It is matched against names as --list shows."
        ) from error
    chosen = [test for test in tests if _matches(test, choice, patterns)]
    if not chosen:
        raise DockstackError(
            "No test of Tempest's is chosen by that.", "See what there is: `dockstack tempest --list`."
        )
    left_out = {name_of(test): excluded[name_of(test)] for test in chosen if name_of(test) in excluded}
    return Selection(tuple(test for test in chosen if name_of(test) not in left_out), left_out)


def load_excluded(*, swap: bool, vfat: bool) -> dict[str, str]:
    """Return the tests that are not run: those that no container can honestly pass, and what this machine lacks.

    Args:
        swap: there is some, which servers whose flavor has swap need.
        vfat: the kernel has it.
    """
    classes = _load("impossible.toml")
    impossible = {
        f"{place}.{test}": f"No container can pass it: {why}"
        for place, tests in classes.items()
        for test, why in tests.items()
    }
    without_swap = {} if swap else dict.fromkeys(NEED_SWAP, NO_SWAP)
    return impossible | without_swap | ({} if vfat else dict.fromkeys(NEED_VFAT, NO_VFAT))


def load_interop() -> frozenset[str]:
    """Read the tests that the interop guideline requires of compute, identity, image and network."""
    groups = _load("interop.toml")
    return frozenset(f"{place}.{test}" for group in groups.values() for place, tests in group.items() for test in tests)


def _matches(test: str, choice: Choice, patterns: list[re.Pattern[str]]) -> bool:
    name, tags = name_of(test), _TAGS.search(test)
    if choice.smoke and (tags is None or "smoke" not in tags[1].split(",")):
        return False
    if choice.names is not None and name not in choice.names:
        return False
    return not patterns or any(pattern.search(name) for pattern in patterns)


def _load(name: str) -> dict[str, dict[str, str]]:
    return tomllib.loads((resources.files("dockstack.verify.tempest") / name).read_text())
