# SPDX-License-Identifier: Apache-2.0
"""A recorded run as one HTML page that needs nothing else: no script, no picture, no other file."""

from __future__ import annotations

from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from dockstack.deploy.run.timeline.recording import Ended, critical_path
from dockstack.deploy.run.timeline.table import path_seconds, service_starts, summary
from dockstack.display import printable

if TYPE_CHECKING:
    from dockstack.deploy.run.timeline.recording import Bar, Link, Recording

# Of a phase, by the order in which they begin: kept apart also by people who see few colours.
COLOURS = ("#4c6ef5", "#12b886", "#f59f00", "#7950f2", "#1098ad", "#e8590c", "#868e96", "#66a80f", "#ae3ec9")
TICKS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
MOST_TICKS = 14

SERVICES = """<section>
<h2>Services</h2>
<p>From the call to start each until it answered.</p>
<div class="chart" style="--tick: {tick}%">
<div class="axis"><b></b><div>{axis}</div></div>
{rows}
</div>
</section>"""


def page_of(recording: Recording) -> str:
    """Return the page."""
    bars = recording.bars()
    path = critical_path(bars)
    scale = _Scale(max([recording.seconds, 0.01, *(bar.ended for bar in bars)]))
    colours = {phase: COLOURS[place % len(COLOURS)] for place, phase in enumerate(dict.fromkeys(b.phase for b in bars))}
    on_path = {link.bar.key for link in path}
    template = Template((resources.files("dockstack.deploy.run.timeline") / "page.html").read_text())
    return template.substitute(
        summary=escape(summary(recording)),
        facts=_facts(recording, bars, path),
        legend="".join(
            f'<span><i style="background: {colour}"></i>{_text(phase)}</span>' for phase, colour in colours.items()
        ),
        tick=scale.tick,
        axis=scale.axis(),
        rows="\n".join(_row(bar, scale, colours[bar.phase], on_path=bar.key in on_path) for bar in bars),
        count=max(len(bars), 1),
        links="".join(_links(path, [bar.key for bar in bars], scale)),
        path="\n".join(_path_row(link, scale, colours[link.bar.phase]) for link in path),
        services=_services(bars, scale),
    )


class _Scale:
    """From seconds to shares of the width."""

    def __init__(self, seconds: float) -> None:
        """Have the whole width stand for so many seconds."""
        self._whole = seconds
        self._step = next((step for step in TICKS if seconds / step <= MOST_TICKS), TICKS[-1])

    @property
    def tick(self) -> str:
        """The distance of two lines of the grid, per cent."""
        return f"{100 * self._step / self._whole:.4f}"

    def percent(self, seconds: float) -> str:
        """Return a time as a share of the width, per cent."""
        return f"{100 * seconds / self._whole:.3f}"

    def axis(self) -> str:
        """Return the numbers above the grid."""
        ticks = [self._step * number for number in range(int(self._whole / self._step) + 1)]
        return "".join(f'<span style="left: {self.percent(tick)}%">{tick:g} s</span>' for tick in ticks)

    def place(self, began: float, seconds: float) -> str:
        """Return where a bar stands, as CSS."""
        return f"left: {self.percent(began)}%; width: {self.percent(seconds)}%"


def _text(text: str) -> str:
    return escape(printable(text))


def _facts(recording: Recording, bars: tuple[Bar, ...], path: tuple[Link, ...]) -> str:
    whole = max(recording.seconds, 0.01)
    facts = [(f"{recording.before + recording.seconds:.1f} s", "from the call to the end")]
    if recording.before:
        facts.append((f"{recording.before:.1f} s", "before the first stage"))
    facts += [
        (f"{sum(bar.seconds for bar in bars) / whole:.1f}", "stages at once, on average"),
        (f"{path_seconds(path):.1f} s", f"in the {len(path)} stages of the critical path"),
        (str(len(service_starts(bars))), "services started"),
    ]
    return "".join(f"<div><b>{number}</b><span>{escape(what)}</span></div>" for number, what in facts)


def _row(bar: Bar, scale: _Scale, colour: str, *, on_path: bool) -> str:
    title = _text(bar.title)
    failed = " failed" if bar.how is not Ended.WELL else ""
    told = f"{title}: {bar.began:.1f} s to {bar.ended:.1f} s{'' if not failed else f', {bar.how.value}'}"
    starts = "".join(
        f'<i class="start" style="{scale.place(bar.began + start.at, start.seconds)}" '
        f'title="{_text(start.name)}: answers after {start.seconds:.1f} s"></i>'
        for start in bar.starts
    )
    return (
        f'<div class="row{" path" if on_path else ""}">{_label(bar.title, bar.seconds)}'
        f'<div class="track"><i class="bar{failed}" title="{told}" '
        f'style="{scale.place(bar.began, bar.seconds)}; background: {colour}"></i>{starts}</div></div>'
    )


def _label(title: str, seconds: float) -> str:
    text = _text(title)
    return f'<div class="label"><span title="{text}">{text}</span><small>{seconds:.1f}</small></div>'


def _links(path: tuple[Link, ...], order: list[str], scale: _Scale) -> list[str]:
    """Return a line from the end of each stage of the path down (or up) to the beginning of the next one."""
    return [
        f'<path d="M {scale.percent(link.before.ended)} {order.index(link.before.key) + 0.5} '
        f'H {scale.percent(link.bar.began)} V {order.index(link.bar.key) + 0.5}"/>'
        for link in path
        if link.before
    ]


def _path_row(link: Link, scale: _Scale, colour: str) -> str:
    bar = link.bar
    return (
        f'<tr><td class="n">{bar.began:.1f}</td><td class="n">{bar.seconds:.1f}</td>'
        f'<td class="share"><i style="width: {scale.percent(bar.seconds)}%; background: {colour}"></i></td>'
        f"<td>{_text(bar.title)}</td><td>{_text(link.reason)}</td></tr>"
    )


def _services(bars: tuple[Bar, ...], scale: _Scale) -> str:
    starts = service_starts(bars)
    if not starts:
        return ""
    rows = "\n".join(
        f'<div class="row">{_label(name, ended - began)}<div class="track"><i class="bar" '
        f'style="{scale.place(began, ended - began)}; background: {COLOURS[0]}"></i></div></div>'
        for name, (began, ended) in starts
    )
    return SERVICES.format(tick=scale.tick, axis=scale.axis(), rows=rows)
