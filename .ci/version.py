"""The version of the release, in every file that states it.

``python .ci/version.py [EXPECTED]`` prints ``version=...`` and ends with 1 where a file differs, or is not EXPECTED.
``python .ci/version.py --set VERSION`` writes it to all of them but the changelog, whose section is written by hand.
``python .ci/version.py --notes`` prints what the changelog says about this version.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: Each place that states the version: the file, and a pattern whose groups are what precedes it, itself, what follows.
PLACES = (
    ("pyproject.toml", r'^(version = ")(.+)(")$'),
    ("deploy/helm/signalbus-relay/Chart.yaml", r'^(appVersion: ")(.+)(")$'),
    ("docker-compose.yml", r"(SIGNALBUS_IMAGE:-signalbus-relay:)([^}]+)(\})"),
    ("docker-compose.yml", r"^( +VERSION: )(\S+)()$"),
    ("deploy/kubernetes/base/kustomization.yaml", r'^( +newTag: ")(\S+)(")$'),
    ("deploy/kubernetes/overlays/sidecar/relay.yaml", r"(image: signalbus-relay:)(\S+)()$"),
    ("docs/how-to/deploy.md", r"^(FROM signalbus-relay:)(\S+)()$"),
    ("docs/how-to/deploy.md", r"( signalbus-relay:)([\d.]\S*)()$"),
)

#: Helm demands Semantic Versioning, which writes a candidate with a hyphen; Python writes it without.
CHART = ("deploy/helm/signalbus-relay/Chart.yaml", r"^(version: )(\S+)()$")


def of_chart(version: str) -> str:
    return re.sub(r"^([\d.]+)((?:a|b|rc)\d+)$", r"\1-\2", version)


def problems(expected: str) -> list[str]:
    """Where another version is stated, or none."""
    found = []
    for name, pattern, wanted in _wanted(expected):
        stated = [match[2] for match in re.finditer(pattern, (ROOT / name).read_text(), re.MULTILINE)]
        if not stated or set(stated) != {wanted}:
            found.append(f"{name}: {', '.join(stated) or 'nothing'} where {wanted} is expected ({pattern})")
    return found


def write(version: str) -> None:
    for name, pattern, wanted in _wanted(version):
        path = ROOT / name
        path.write_text(re.sub(pattern, rf"\g<1>{wanted}\g<3>", path.read_text(), flags=re.MULTILINE))


def notes(version: str) -> str:
    """The section of the changelog about a version."""
    text = (ROOT / "CHANGELOG.md").read_text()
    section = re.search(rf"^## \[{re.escape(version)}\].*?\n(.*?)(?=^## \[|\Z)", text, re.MULTILINE | re.DOTALL)
    if section is None:
        raise SystemExit(f"CHANGELOG.md has no section [{version}]")
    return section[1].strip()


def main(arguments: list[str]) -> int:
    [declared] = re.findall(PLACES[0][1], (ROOT / PLACES[0][0]).read_text(), re.MULTILINE)
    version = declared[1]
    if arguments == ["--notes"]:
        print(notes(version))
        return 0
    if arguments[:1] == ["--set"]:
        write(version := arguments[1])
    found = problems(arguments[-1] if arguments else version)
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"version={version}")
    return 1 if found else 0


def _wanted(version: str) -> list[tuple[str, str, str]]:
    return [(*place, version) for place in PLACES] + [(*CHART, of_chart(version))]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
