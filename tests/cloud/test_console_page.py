# SPDX-License-Identifier: Apache-2.0
"""The console page in a real browser: what a person does with the address that Nova gives."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dockstack.compute.consoles.vnc.glyphs import load_face
from dockstack.verify.console import create_address, page_of
from dockstack.verify.resources import boot
from rfb_client import read_text

pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]

SCRIPTS = Path(__file__).parents[1] / "browser"
PROGRAMS = ("chromium", "node")
SHELL = {"docker_console_command": '["/bin/bash", "-l"]', "docker_console_user": "0"}


NO_BROWSER = pytest.mark.skipif(
    not all(shutil.which(program) for program in PROGRAMS),
    reason="a browser is no part of a cloud: apt-get install chromium nodejs to run this",
)


def use(script: str, *arguments: str) -> dict[str, Any]:
    command = ["node", "--experimental-websocket", str(SCRIPTS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@NO_BROWSER
def test_the_page_is_a_terminal(ctx, tmp_path):
    server = boot(ctx, metadata=SHELL)
    address = page_of(create_address(ctx.connection, server))

    seen = use("console.mjs", address, str(tmp_path))
    assert seen["name"].startswith(server.name), "the window has the server's name"
    assert "token" not in seen["location"], "the token does not stay in the address bar"
    assert not seen["complaints"], "neither errors nor what the page's own policy forbids"
    rows, columns = map(int, seen["size"].split())
    fewer_rows, fewer_columns = map(int, seen["smaller"].split())
    assert fewer_rows < rows
    assert fewer_columns < columns
    assert (tmp_path / "console.png").stat().st_size > 10_000


@NO_BROWSER
def test_novnc_shows_the_terminal(ctx, tmp_path):
    server = boot(ctx, metadata=SHELL)
    address = ctx.connection.compute.create_console(server, console_type="novnc")["url"]
    script = ["", "clear", "echo $((6 * 7)) is it; stty size", "sleep 100", "^C", "echo 'back'"]

    seen = use("vnc.mjs", address, str(tmp_path), "\n".join(script))
    assert seen["name"].startswith(server.name), "the window has the server's name"
    assert "token" not in seen["location"], "the token does not stay in the address bar"
    assert not seen["complaints"], "neither errors nor what the page's own policy forbids"
    canvas = Image.open(tmp_path / "canvas.png").convert("RGB")
    assert list(canvas.size) == seen["first"] > seen["smaller"]
    shown = read_text(canvas.tobytes(), canvas.width).splitlines()
    face = load_face()
    assert shown[1:3] == ["42 is it", f"{canvas.height // face.height} {canvas.width // face.width}"]
    assert "^C" in "".join(shown[3:6])
    assert "back" in shown
