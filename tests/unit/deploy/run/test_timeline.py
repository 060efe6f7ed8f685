# SPDX-License-Identifier: Apache-2.0
"""What waited for what in a run: the critical path, the table, the page, and where they are written."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from dockstack.deploy.run.events import Event, Kind, parse
from dockstack.deploy.run.timeline import writing
from dockstack.deploy.run.timeline.page import page_of
from dockstack.deploy.run.timeline.recording import Cause, Ended, Recording, critical_path
from dockstack.deploy.run.timeline.table import table_of
from dockstack.deploy.supervision.services import ServiceStart
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit

EVIL = "<script>alert(1)</script>\x1b[31m"


def began(name, at, *after, title=""):
    return Event(Kind.START, name, title or name.upper(), "services", at=at, after=after)


def done(name, seconds, *starts):
    return Event(Kind.DONE, name, seconds=seconds, starts=starts)


def recorded(*events):
    recording = Recording()
    for event in events:
        recording.tell(parse(event.line()))  # as it comes from the other process
    return recording


@pytest.fixture
def run():
    """One slot: database (3 s), then idle work (1 s) takes the slot that the API (2 s) waits for."""
    return recorded(
        Event(Kind.PLAN, tasks=("database", "idle", "api", "quick")),
        began("database", 0.0),
        began("quick", 0.0),
        done("quick", 0.5),
        done("database", 3.0, ServiceStart("mariadb", 0.5, 2.25)),
        began("idle", 3.0, "database"),
        done("idle", 1.0),
        began("api", 4.0, "database", "quick"),
        done("api", 2.0, ServiceStart("nova-api", 0.0, 1.75)),
        Event(Kind.END, ok=True, seconds=6.1),
    )


def test_the_critical_path_names_what_each_stage_waited_for(run):
    path = critical_path(run.bars())
    assert [(link.bar.key, link.cause, link.before and link.before.key) for link in path] == [
        ("database", Cause.FIRST, None),
        ("idle", Cause.NEEDED, "database"),
        ("api", Cause.SLOT, "idle"),
    ]
    assert path[2].reason == "no slot was free before the end of IDLE"


def test_a_run_of_nothing_has_no_path_and_still_a_page():
    empty = recorded(Event(Kind.PLAN), Event(Kind.END, ok=True))
    assert critical_path(empty.bars()) == ()
    assert "0 stages" in table_of(empty)
    assert "0 stages" in page_of(empty)


def test_clocks_that_were_rounded_do_not_make_a_circle():
    bars = recorded(began("a", 0.0), done("a", 1.01), began("b", 1.0, "a"), done("b", 0.01)).bars()
    assert [link.bar.key for link in critical_path(bars)] == ["a"]
    both = recorded(began("a", 0.0), done("a", 0.0), began("b", 0.0), done("b", 0.0)).bars()
    assert len(critical_path(both)) == 1


def test_a_stage_that_was_interrupted_ends_with_the_run_and_says_so():
    one, other = recorded(
        began("a", 0.0), began("b", 1.0), done("b", 4.0), Event(Kind.END, ok=False, seconds=5.0)
    ).bars()
    assert (one.how, one.ended) == (Ended.NOT, 5.0)
    assert (other.how, other.ended) == (Ended.WELL, 5.0)


def test_the_time_before_the_first_stage_is_counted_from_the_call(monkeypatch):
    monkeypatch.setattr("dockstack.deploy.run.timeline.recording.time.time", lambda: 1001.5)
    recording = Recording(called=1000.0)
    recording.tell(Event(Kind.PLAN))
    assert recording.before == 1.5
    assert "after 1.5 s of the command line's own" in table_of(recording)


def test_the_table_has_path_services_and_all_stages(run):
    text = table_of(run)
    path, services, stages = re.split(r"\n\n(?=Services|All stages)", text)
    assert [line.split()[:4] for line in path.splitlines()[4:]] == [
        ["0.0", "3.0", "3.0", "DATABASE"],
        ["3.0", "4.0", "1.0", "IDLE"],
        ["4.0", "6.0", "2.0", "API"],
    ]
    assert [line.split() for line in services.splitlines()[2:]] == [
        ["0.5", "2.8", "2.2", "mariadb"],
        ["4.0", "5.8", "1.8", "nova-api"],
    ]
    assert len(stages.splitlines()) == 2 + 4
    assert stages.splitlines()[-1].split() == ["4.0", "6.0", "2.0", "API", "DATABASE"]


class Reader(HTMLParser):
    """Notes what a browser would: tags that stand open, and whatever it would have to fetch or run."""

    VOID = ("meta", "path")

    def __init__(self):
        super().__init__()
        self.open, self.outside, self.wrong = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        self.outside += [value for name, value in attributes if name in {"src", "href", "onclick"}]
        self.outside += [tag] if tag in {"script", "link", "img", "iframe"} else []

    def handle_endtag(self, tag):
        if tag not in self.VOID and self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_is_whole_and_needs_nothing_else(run):
    reader = Reader()
    reader.feed(page_of(run))
    assert (reader.open, reader.wrong, reader.outside) == ([], [], [])
    assert page_of(run).count('<div class="row path">') == 3
    assert page_of(run).count('<i class="start"') == 2


def test_names_are_text_in_the_page_and_in_the_table():
    failed = Event(Kind.FAILED, "a", text="it broke", seconds=1.0, ok=False)
    recording = recorded(began("a", 0.0, title=EVIL), failed, Event(Kind.END, ok=False, seconds=1.0))
    for text in (page_of(recording), table_of(recording)):
        assert "\x1b" not in text
    assert "<script>" not in page_of(recording)
    assert "&lt;script&gt;" in page_of(recording)
    assert 'class="bar failed"' in page_of(recording)


def test_the_name_of_the_file_says_the_form(run, tmp_path, capsys):
    for name, begins in (("a.html", "<!doctype html>"), ("a.txt", "4 stages in 6.1 s.")):
        writing.check_target(str(tmp_path / name), output_taken=True)
        writing.write(run, str(tmp_path / name))
        assert (tmp_path / name).read_text().startswith(begins)
    writing.check_target("-", output_taken=False)
    writing.write(run, "-")
    assert capsys.readouterr().out == table_of(run)


@pytest.mark.parametrize(
    ("target", "says"),
    [("-", "JSON"), ("a.pdf", "a.pdf"), ("none/a.html", "no directory")],
    ids=["-", "pdf", "nowhere"],
)
def test_what_cannot_be_written_is_refused_before_the_run(target, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DockstackError, match=says):
        writing.check_target(target, output_taken=True)
