# SPDX-License-Identifier: Apache-2.0
"""The console page in a real browser: what a person does with the address that Nova gives."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from dockstack.verify.console import create_address, page_of
from dockstack.verify.resources import boot

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parents[1] / "browser/console.mjs"
PROGRAMS = ("chromium", "node")
SHELL = {"docker_console_command": '["/bin/bash", "-l"]', "docker_console_user": "0"}


@pytest.mark.skipif(
    not all(shutil.which(program) for program in PROGRAMS),
    reason="a browser is no part of a cloud: apt-get install chromium nodejs to run this",
)
def test_the_page_is_a_terminal(ctx, tmp_path):
    server = boot(ctx, metadata=SHELL)
    address = page_of(create_address(ctx.connection, server))

    command = ["node", "--experimental-websocket", str(SCRIPT), address, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["name"].startswith(server.name), "the window has the server's name"
    assert "token" not in seen["location"], "the token does not stay in the address bar"
    assert not seen["complaints"], "neither errors nor what the page's own policy forbids"
    rows, columns = map(int, seen["size"].split())
    fewer_rows, fewer_columns = map(int, seen["smaller"].split())
    assert fewer_rows < rows
    assert fewer_columns < columns
    assert (tmp_path / "console.png").stat().st_size > 10_000
