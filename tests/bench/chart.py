"""The figures as a picture: one bar a row, as long as our cost in units of the yardstick's.

A plain SVG without script or fonts of its own. Its colours follow the reader's light or dark
scheme, and it brings its background, so that it can be read on any page.
"""

from collections.abc import Iterator
from xml.sax.saxutils import escape

from tests.bench.figures import Row, Run

WIDTH = 860
_LABEL_WIDTH = 262  # where the bars begin
_LINE_HEIGHT = 24
_TOP = 76
_COST_MAX = 2.2  # the right edge; a longer bar is cut off, and its number says how long it is
_SCALE = (WIDTH - _LABEL_WIDTH - 150) / _COST_MAX

_LEGEND = (
    "CPU time of the process; for a new client, time. Shorter is better. "
    "1: the yardstick. Tick: what we require; orange: not reached."
)
_STYLE = """
  :root { color-scheme: light dark; }
  .page { fill: #ffffff; stroke: #d0d7de; }
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
  .title { font-size: 16px; font-weight: 600; }
  .quiet { fill: #59636e; font-size: 12px; }
  .bar { fill: #2f6fb0; }
  .over { fill: #b35900; }
  .one { stroke: #59636e; stroke-width: 1; }
  .wanted { stroke: #1f2328; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #3d444d; }
    text { fill: #e6edf3; }
    .quiet { fill: #9198a1; }
    .bar { fill: #4d94dd; }
    .over { fill: #e0883a; }
    .one { stroke: #9198a1; }
    .wanted { stroke: #e6edf3; }
  }
"""


def svg(run: Run) -> str:
    """The picture of a run."""
    bars = [row for row in run.rows if row.cost is not None]
    facts = [row for row in run.rows if row.cost is None]
    height = _TOP + _LINE_HEIGHT * (len(bars) + len(facts)) + (62 if facts else 46)
    bottom = _TOP + _LINE_HEIGHT * len(bars)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="t d">',
        '<title id="t">Backstay beside PgBouncer, redis-server and HAProxy</title>',
        f'<desc id="d">{escape(described(run))}</desc>',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text(20, 30, "Cost of a unit of work, Backstay : yardstick", "title"),
        _text(20, 50, _LEGEND, "quiet"),
        *(part for at, row in enumerate(bars) for part in _bar(row, _TOP + _LINE_HEIGHT * at)),
        _line("one", _x(1), _TOP - 6, bottom + 4),
        *(part for at, row in enumerate(facts)
          for part in _fact(row, bottom + 30 + _LINE_HEIGHT * at)),
        _text(20, height - 16, f"{run.date}, commit {run.commit}, {run.machine}, "
              f"Python {run.python}, medians of {run.rounds} interleaved rounds", "quiet"),
        "</svg>",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def described(run: Run) -> str:
    """The picture in words, for those who do not see it."""
    rows = (f"{row.name}: {row.cost:.2f}" for row in run.rows if row.cost is not None)
    return "Cost in units of the yardstick's. " + "; ".join(rows) + "."


def _x(cost: float) -> float:
    return _LABEL_WIDTH + min(cost, _COST_MAX) * _SCALE


def _text(x: float, y: float, words: str, kind: str = "", end: bool = False) -> str:
    looks = f' class="{kind}"' if kind else ""
    anchor = ' text-anchor="end"' if end else ""
    return f'<text{looks} x="{x:g}" y="{y:g}"{anchor}>{escape(words)}</text>'


def _line(kind: str, x: float, top: float, bottom: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" y1="{top:g}" x2="{x:.1f}" y2="{bottom:g}"/>'


def _bar(row: Row, top: float) -> Iterator[str]:
    cost, required = row.cost, row.cost_required
    assert cost is not None
    over = required is not None and cost > required
    width = _x(cost) - _LABEL_WIDTH
    yield _text(_LABEL_WIDTH - 10, top + 13, row.name, end=True)
    yield (
        f'<rect class="{"over" if over else "bar"}" x="{_LABEL_WIDTH}" y="{top + 2:g}" '
        f'width="{width:.1f}" height="14" rx="2"/>'
    )
    if required is not None:
        yield _line("wanted", _x(required), top, top + 18)
    end = max(_x(cost), _x(required or 0))
    yield _text(end + 8, top + 13, f"{cost:.2f}")
    yield _text(end + 42, top + 13, row.beside, "quiet")


def _fact(row: Row, y: float) -> Iterator[str]:
    """A row without a bar: the figures in words."""
    beside = {row.beside: row.yardstick, **row.others}
    words = "".join(f", {name} {value:.2g}" for name, value in beside.items() if value is not None)
    yield _text(_LABEL_WIDTH - 10, y, row.name, end=True)
    yield _text(_LABEL_WIDTH, y, f"Backstay {row.ours:.2g}{words} ({row.unit})")
