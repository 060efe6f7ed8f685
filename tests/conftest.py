# SPDX-License-Identifier: Apache-2.0
"""Being here puts tests/ on the path, so that layers can share builders such as image_archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--devstack", metavar="DIR", help="A DevStack tree, or a bare repository of it, for the plugin.")
    parser.addoption("--conformance", metavar="PROGRAM", help="The built conformance suite of OCI Distribution.")
