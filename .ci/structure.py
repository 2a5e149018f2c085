"""The figures of the code's structure, and which of them are out of bounds.

Run by ``make lint``: prints the figures, and ends with 1 when a folder holds too many modules, a module has too many
lines, or a constructor too many parameters.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("signalbus_core", "relay")

#: A folder with more modules is perhaps two packages. Those named here hold many small modules of one kind.
MOST_MODULES = 10
MORE_MODULES = {
    "signalbus_core/burst": 12,
    "relay/web": 16,
    "relay/checks": 15,
}

#: A longer module has perhaps two purposes.
MOST_LINES = 300

#: A constructor with more parameters does several things, or gets what it could make itself.
MOST_PARAMETERS = 7


def main() -> int:
    modules = {path: path.read_text() for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
    folders = Counter(str(path.parent.relative_to(ROOT)) for path in modules if path.name != "__init__.py")
    lines = {str(path.relative_to(ROOT)): text.count("\n") for path, text in modules.items()}
    constructors = sorted(
        (
            (count, f"{path.relative_to(ROOT)}: {name}")
            for path, text in modules.items()
            for name, count in _parameters(text)
        ),
        reverse=True,
    )
    (fullest, most_modules), (longest, most_lines) = (
        folders.most_common(1)[0],
        max(lines.items(), key=lambda one: one[1]),
    )
    print(f"{sum(lines.values())} lines in {len(modules)} modules in {len(folders)} folders")
    print(f"most modules in a folder: {most_modules} ({fullest})")
    print(f"most parameters of a constructor: {constructors[0][0]} ({constructors[0][1]})")
    print(f"longest module: {most_lines} lines ({longest})")
    problems = [
        f"{name} has {count} modules" for name, count in folders.items() if count > MORE_MODULES.get(name, MOST_MODULES)
    ]
    problems += [f"{name} has {count} lines" for name, count in lines.items() if count > MOST_LINES]
    problems += [f"{name} has {count} parameters" for count, name in constructors if count > MOST_PARAMETERS]
    for problem in problems:
        print(f"too large: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _parameters(text: str) -> Iterator[tuple[str, int]]:
    """Each class that has a constructor of its own, with the number of its parameters."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    yield node.name, len(method.args.args) + len(method.args.kwonlyargs) - 1


if __name__ == "__main__":
    sys.exit(main())
