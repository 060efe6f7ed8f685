# SPDX-License-Identifier: Apache-2.0
"""Names of strangers are data: in errors, in logs, on the terminal."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from dockstack import terminal
from dockstack.cli import image as command
from dockstack.cli import main
from dockstack.display import printable, printable_lines
from dockstack.errors import DockstackError
from dockstack.terminal import Screen, styled

pytestmark = pytest.mark.unit

SOURCES = Path(terminal.__file__).parent
EVIL = "[/x][bold]:boom:\x1b]0;title\x07\x1b[2J\r\nERROR forged \u202e\u2028line\ud800"


@given(st.text())
def test_whatever_it_is_it_is_one_printable_line(text) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    assert all(line.replace("\t", "").isprintable() for line in printable_lines(text).split("\n"))
    if text.isprintable():
        assert printable(text) == text


def test_what_does_not_print_is_written_out() -> None:
    assert printable("a\nb\x1b[2Jü\u202e") == r"a\nb\x1b[2Jü\u202e"
    assert printable_lines("a\n\tb\r") == "a\n\tb\\r"


def test_errors_are_lines_whatever_they_quote() -> None:
    error = DockstackError(f"The image {EVIL} is bad.", f"Rename {EVIL}.", f"one\n{EVIL}")
    for said in (str(error), error.brief, error.resolution, repr(error)):
        assert said.isprintable()
    assert error.details.split("\n")[0] == "one"
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("dockstack.test")
    logger.addHandler(handler)
    logger.warning("It failed: %s", error)
    assert stream.getvalue().count("\n") == 1


@pytest.fixture
def screen(monkeypatch):
    made = Screen()
    made.file = io.StringIO()
    made._force_terminal = True
    return made


def shown(screen: Screen) -> str:
    """Return what a terminal would be told, without the styles that rich itself sets."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.file.getvalue())


def test_a_screen_shows_strings_as_they_are(screen) -> None:
    table = Table(EVIL, title=EVIL, box=None)
    table.add_row(EVIL)
    screen.print(EVIL)
    screen.print(table)
    screen.print(styled((EVIL, "bold"), EVIL))
    with screen.status(EVIL) as status:
        status.update(EVIL)
    said = shown(screen)
    assert "[/x][bold]:boom:" in said
    assert not set(said) & set("\x1b\x07\u202e\u2028")


def test_an_image_list_survives_its_images_names(monkeypatch) -> None:
    entry = SimpleNamespace(
        id="1", name=EVIL, status="active", visibility="public", size=1, container_format="docker",
        architecture=None, hash_value=None, properties={"hw_architecture": "[/x]"},
    )  # fmt: skip
    monkeypatch.setattr(command, "_connect", lambda _: SimpleNamespace(image=SimpleNamespace(images=lambda: [entry])))
    result = CliRunner(env={"COLUMNS": "300"}).invoke(command.image, ["list"])
    assert result.exit_code == 0, result.exception
    assert f" {printable(EVIL)} " in result.output
    assert len(result.output.splitlines()) == 2
    listed = CliRunner().invoke(command.image, ["list", "--json"])
    assert json.loads(listed.output)[0]["name"] == EVIL


def test_the_command_line_says_an_error_in_lines_of_its_own(monkeypatch, capsys) -> None:
    def fail(**_: object) -> None:
        raise DockstackError(f"no {EVIL}", f"do {EVIL}", f"see\n{EVIL}")

    monkeypatch.setattr(main.cli, "main", fail)
    with pytest.raises(SystemExit):
        main.main()
    said = capsys.readouterr().err.splitlines()
    assert (said[0].split(" ")[0], said[1], said[-1].split(" ")[0]) == ("error:", "see", "what")
    assert all(line.isprintable() for line in said)


def test_only_one_house_knows_richs_console() -> None:
    """Elsewhere a string could be markup again."""
    forbidden = re.compile(r"rich\.(console import .*\bConsole\b|markup|status)|from_markup|import rich")
    found = [path.name for path in SOURCES.rglob("*.py") if forbidden.search(path.read_text())]
    assert found == ["terminal.py"]
