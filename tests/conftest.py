# SPDX-License-Identifier: Apache-2.0
"""Being here puts tests/ on the path, so that layers can share builders such as image_archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--devstack", metavar="DIR", help="A DevStack tree, or a bare repository of it, for the plugin.")
    parser.addoption("--nightly", action="store_true", help="Run tests that are marked nightly, too.")
    parser.addoption("--conformance", metavar="PROGRAM", help="The built conformance suite of OCI Distribution.")


def pytest_collection_modifyitems(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    if config.getoption("--nightly"):
        return
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.skip(reason="runs in the nightly layers (--nightly)"))
