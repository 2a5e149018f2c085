"""The map of the code: the picture in docs/explanation, and the table of packages in CONTRIBUTING.md.

``python .ci/map.py`` makes both from the code. With ``--check`` it writes nothing, and ends with 1 when one of them is
not what the code gives. It also fails when packages import each other in a circle, or one is missing in ``ORDER``.
"""

from __future__ import annotations

import ast
import re
import sys
from html import escape
from pathlib import Path
from textwrap import wrap

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "explanation" / "map.svg"
PAGE = ROOT / "CONTRIBUTING.md"
TABLE = re.compile(r"(?<=<!-- map -->\n).*?(?=<!-- /map -->)", re.DOTALL)

#: What the picture shows: two programs, the one above imports the one below.
PACKAGES = ("relay", "signalbus_core")
TITLES = {
    "relay": "relay: the daemon and its commands",
    "signalbus_core": "signalbus_core: what an application imports",
}

#: The packages in the order in which a signal meets them; then what people use, and what the others stand on.
ORDER = [
    "signalbus_core",
    "signalbus_core/tracing",
    "signalbus_core/transactions",
    "signalbus_core/model",
    "signalbus_core/model/sending",
    "signalbus_core/schema",
    "signalbus_core/schema/ordering",
    "signalbus_core/sql",
    "signalbus_core/sql/backlog",
    "signalbus_core/sql/ordered",
    "signalbus_core/sql/sent",
    "signalbus_core/sql/parked",
    "signalbus_core/sql/schedule",
    "signalbus_core/sql/diagnosis",
    "relay",
    "relay/servers",
    "relay/config",
    "relay/application",
    "relay/application/outbox_tables",
    "relay/application/outbox_tables/row_choice",
    "relay/scheduler",
    "relay/notifier",
    "relay/poller",
    "relay/poller/scan",
    "relay/poller/diagnosis",
    "relay/worker",
    "relay/worker/retry_store",
    "relay/worker/recovery",
    "signalbus_core/burst",
    "signalbus_core/waiting",
    "signalbus_core/rabbitmq",
    "signalbus_core/rabbitmq/rows",
    "signalbus_core/rabbitmq/amqp",
    "relay/telemetry",
    "relay/telemetry/logs",
    "relay/replicas",
    "relay/web",
    "relay/operations",
    "relay/commands",
    "relay/commands/setup",
    "relay/explain",
    "relay/contract",
    "relay/checks",
    "relay/drill",
    "relay/drill/kinds",
    "relay/drill/inbox",
    "signalbus_core/inbox",
    "signalbus_core/testing",
]

MARGIN, PAD, GAP, BETWEEN = 16, 14, 10, 44
BOX_WIDTH, BOX_HEIGHT, ROW_GAP, HEAD = 170, 92, 30, 42
LINE_LETTERS, LINES = 24, 4

STYLE = """
    .sheet { fill: #fbfcfb }
    .panel { fill: #eef4f1; stroke: #9fb3ac }
    .box { fill: #ffffff; stroke: #9fb3ac; stroke-width: 1.5 }
    .way { stroke: #2a6f5f; stroke-width: 2.5 }
    .title { font-weight: 600; font-size: 17px; fill: #1d2b27 }
    .name { font-weight: 600; font-size: 14px; fill: #1d2b27 }
    .text { font-size: 11px; fill: #51635c }
    .arrow { stroke: #7c8f88; stroke-width: 1.2; fill: none; marker-end: url(#tip) }
    .between { stroke: #2a6f5f; stroke-width: 3; fill: none; marker-end: url(#tip) }
    .tip { fill: #51635c }
    .number { fill: #2a6f5f }
    .digit { fill: #ffffff; font-size: 11px; font-weight: 600; text-anchor: middle }
    @media (prefers-color-scheme: dark) {
      .sheet { fill: #1b2220 }
      .panel { fill: #202926; stroke: #5f756d }
      .box { fill: #2a3632; stroke: #5f756d }
      .way { stroke: #6cc0a9 }
      .title, .name { fill: #e4ece9 }
      .text, .tip { fill: #a9bab4 }
      .arrow { stroke: #7c8f88 }
      .between { stroke: #6cc0a9 }
    }
"""


_OPENING = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
     aria-labelledby="title description" font-family="system-ui, sans-serif">
  <title id="title">The packages of Signalbus</title>
  <desc id="description">The packages and modules of the relay and of the library, in layers. Each imports only what is
    below it. Numbers are the steps of a signal's way, as CONTRIBUTING.md counts them.</desc>
  <style>{style}  </style>
  <defs>
    <marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8"
            markerUnits="userSpaceOnUse" orient="auto">
      <path class="tip" d="M0 0 10 5 0 10z"/>
    </marker>
  </defs>
  <rect class="sheet" width="{width}" height="{height}" rx="12"/>"""


def main() -> int:
    picture = draw()
    page = TABLE.sub(lambda _: table(), PAGE.read_text())
    stale = [path for path, text in ((PICTURE, picture), (PAGE, page)) if not path.exists() or path.read_text() != text]
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(picture)
        PAGE.write_text(page)
        return 0
    for path in stale:
        sys.stderr.write(f"{path.relative_to(ROOT)} is not what the code gives: run python .ci/map.py\n")
    return 1 if stale else 0


# What the code says


def docstring(path: Path) -> str:
    """The first sentence of a module's docstring, in one line."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def folders() -> list[Path]:
    found = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}
    by_name = {str(path.relative_to(ROOT)): path for path in found}
    if sorted(by_name) != sorted(ORDER):
        raise SystemExit(f".ci/map.py: ORDER and the packages differ: {sorted(by_name.keys() ^ set(ORDER))}")
    return [by_name[name] for name in ORDER]


def table() -> str:
    rows = ["| folder | what it does |", "| --- | --- |"]
    for folder in folders():
        name, text = folder.relative_to(ROOT), docstring(folder / "__init__.py").replace("``", "`")
        rows.append(f"| [`{name}/`]({name}) | {text} |")
    return "\n".join([*rows, ""])


def units(package: str) -> dict[str, Path]:
    """The first-level packages and modules, by name, each with the module that has its docstring."""
    found = {}
    for path in sorted((ROOT / package).iterdir()):
        if path.suffix == ".py" and path.stem != "__init__":
            found[path.stem] = path
        elif (path / "__init__.py").exists():
            found[path.name] = path / "__init__.py"
    return found


def imports(package: str) -> dict[str, set[str]]:
    """Which of the first-level packages and modules imports which."""
    known = units(package)
    found: dict[str, set[str]] = {name: set() for name in known}
    for name, home in known.items():
        for path in home.parent.rglob("*.py") if home.stem == "__init__" else [home]:
            found[name] |= {target for target in _targets(path, package) if target in known}
        found[name].discard(name)
    return found


def _targets(path: Path, package: str) -> set[str]:
    parts = path.relative_to(ROOT).with_suffix("").parts[:-1]
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(parts[: len(parts) - node.level + 1]) if node.level else []
            names += [".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names]
    split = [name.split(".") for name in names]
    return {name[1] for name in split if name[0] == package and len(name) > 1}


def layers(graph: dict[str, set[str]]) -> list[list[str]]:
    """The top layer first. Each name stands as low as what it imports allows, so every import leads down."""
    heights: dict[str, int] = {}
    while len(heights) < len(graph):
        ready = [name for name in graph if name not in heights and graph[name] <= heights.keys()]
        if not ready:
            raise SystemExit(f".ci/map.py: imports in a circle among {sorted(graph.keys() - heights.keys())}")
        heights |= {name: max((heights[target] + 1 for target in graph[name]), default=0) for name in ready}
    return [sorted(n for n in graph if heights[n] == height) for height in range(max(heights.values()), -1, -1)]


def direct(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that follow from no others: those that a reader needs to see the order."""

    def below(name: str) -> set[str]:
        return graph[name].union(*(below(target) for target in graph[name]))

    return sorted(
        (name, target)
        for name, targets in graph.items()
        for target in targets
        if not any(target in below(other) for other in targets)
    )


def steps() -> dict[str, list[str]]:
    """The numbers of the steps of a signal's way, as CONTRIBUTING.md counts them, by package and first-level name."""
    found: dict[str, list[str]] = {}
    for number, path in re.findall(r"^(\d+)\. `([\w/]+)(?:\.py)?`", PAGE.read_text(), re.MULTILINE):
        found.setdefault("/".join(path.split("/")[:2]), []).append(number)
    return found


# The picture


def draw() -> str:
    way = steps()
    relay, library = PACKAGES
    width, height = _size(relay)
    below, (next_width, next_height) = MARGIN + 3 * HEAD, _size(library)
    left = MARGIN + width + BETWEEN
    whole = (left + next_width + MARGIN, max(MARGIN + height, below + next_height) + MARGIN)
    return "\n".join(
        [
            _OPENING.format(width=whole[0], height=whole[1], style=STYLE),
            *_panel(relay, MARGIN, MARGIN, way),
            *_panel(library, left, below, way),
            f'  <path class="between" d="M{MARGIN + width} {below - 2 * HEAD}H{left + next_width // 2}V{below - 3}"/>',
            f'  <text class="text" x="{left + next_width // 2 + 10}" y="{below - HEAD}">imports</text>',
            "</svg>",
            "",
        ]
    )


def _size(package: str) -> tuple[int, int]:
    rows = layers(imports(package))
    most = max(map(len, rows))
    return most * (BOX_WIDTH + GAP) - GAP + 2 * PAD, HEAD + len(rows) * (BOX_HEIGHT + ROW_GAP) - ROW_GAP + PAD


def _panel(package: str, left: int, top: int, way: dict[str, list[str]]) -> list[str]:
    graph, homes = imports(package), units(package)
    width, height = _size(package)
    places = {}
    for level, row in enumerate(layers(graph)):
        first = left + (width - len(row) * (BOX_WIDTH + GAP) + GAP) // 2
        for index, name in enumerate(row):
            places[name] = (first + index * (BOX_WIDTH + GAP), top + HEAD + level * (BOX_HEIGHT + ROW_GAP))
    parts = [
        f'  <rect class="panel" x="{left}" y="{top}" width="{width}" height="{height}" rx="10"/>',
        f'  <text class="title" x="{left + PAD}" y="{top + 27}">{escape(TITLES[package])}</text>',
    ]
    parts += [_arrow(places[name], places[target]) for name, target in direct(graph)]
    for name, place in places.items():
        parts += _box(name, docstring(homes[name]), place, way.get(f"{package}/{name}", []))
    return parts


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1, x2, y2 = start[0] + BOX_WIDTH // 2, start[1] + BOX_HEIGHT, end[0] + BOX_WIDTH // 2, end[1]
    bend = (y2 - y1) // 2
    return f'  <path class="arrow" d="M{x1} {y1}C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}"/>'


def _box(name: str, text: str, place: tuple[int, int], numbers: list[str]) -> list[str]:
    x, y = place
    kind = "box way" if numbers else "box"
    parts = [
        f'  <rect class="{kind}" x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>',
        f'  <text class="name" x="{x + 10}" y="{y + 21}">{escape(name)}</text>',
    ]
    lines = wrap(text.replace("``", "").split(". ")[0].removesuffix("."), LINE_LETTERS)
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], lines[LINES - 1].rsplit(" ", 1)[0].rstrip(" ,.;:") + " …"]
    for index, line in enumerate(lines):
        parts.append(f'  <text class="text" x="{x + 10}" y="{y + 39 + index * 14}">{escape(line)}</text>')
    if numbers:
        label = _ranges([int(number) for number in numbers])
        width = 12 + 7 * len(label)
        left = x + BOX_WIDTH - width - 6
        parts.append(f'  <rect class="number" x="{left}" y="{y + 8}" width="{width}" height="18" rx="9"/>')
        parts.append(f'  <text class="digit" x="{left + width / 2:g}" y="{y + 21}">{label}</text>')
    return parts


def _ranges(numbers: list[int]) -> str:
    """As ``3, 7-9``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


if __name__ == "__main__":
    sys.exit(main())
