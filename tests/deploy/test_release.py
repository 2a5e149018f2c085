"""The workflows for GitHub and GitLab, the forms, the version and the manual page are valid for their users' tools."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.checks.versions import TESTED_PYTHON
from tests.support.programs import find_program

from .tools import ROOT, output_of, program

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
GITLAB = ROOT / ".ci" / "gitlab.yml"

#: Each file, and its schema as the vendor publishes it.
SCHEMAS = [
    *((path, "vendor.github-workflows") for path in WORKFLOWS),
    *((path, "vendor.github-issue-forms") for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml"))),
    (GITHUB / "ISSUE_TEMPLATE" / "config.yml", "vendor.github-issue-config"),
    (GITHUB / "dependabot.yml", "vendor.dependabot"),
    (GITLAB, "vendor.gitlab-ci"),
    (ROOT / "docker-compose.yml", "vendor.compose-spec"),
]


def workflow(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((GITHUB / "workflows" / name).read_text())
    return loaded


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job.get("steps", [])]


def gitlab_scripts() -> list[str]:
    jobs = yaml.safe_load(GITLAB.read_text()).values()
    return [line for job in jobs if isinstance(job, dict) for line in job.get("script", [])]


@pytest.mark.parametrize(("path", "schema"), SCHEMAS, ids=lambda value: getattr(value, "name", value))
def test_the_file_is_valid_by_the_schema_of_its_vendor(path: Path, schema: str) -> None:
    output_of(program("check-jsonschema"), "--builtin-schema", schema, str(path))


def test_actionlint_and_shellcheck_find_nothing_in_the_workflows() -> None:
    program("shellcheck")
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert output_of(program("actionlint"), *map(str, WORKFLOWS), environ={"PATH": beside}) == ""


def test_every_action_is_pinned_by_digest_with_its_version_beside() -> None:
    for path in WORKFLOWS:
        for line in re.findall(r"uses: (.+)", path.read_text()):
            assert line.startswith("./") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_has_one_digest_and_a_digest_one_version() -> None:
    found = {line for path in WORKFLOWS for line in re.findall(r"uses: ([\w./-]+@.+)", path.read_text())}
    assert len(found) == len({line.split("@")[0] for line in found}) > 0


def test_a_workflow_may_read_and_a_job_only_what_it_needs() -> None:
    for path in WORKFLOWS:
        assert workflow(path.name)["permissions"] == {"contents": "read"}
    granted = {
        name: {right for right, kind in job.get("permissions", {}).items() if kind == "write"}
        for name, job in workflow("release.yml")["jobs"].items()
    }
    assert {name: rights for name, rights in granted.items() if rights} == {
        "pypi": {"id-token"},
        "image": {"packages", "id-token"},
        "page": {"contents"},
    }


def test_a_job_that_checks_out_leaves_no_credentials_behind() -> None:
    checkouts = [step for path in WORKFLOWS for step in steps(path.name) if "checkout" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_no_expression_that_others_can_set_is_part_of_a_script() -> None:
    scripts = [step["run"] for path in WORKFLOWS for step in steps(path.name) if "run" in step]
    assert not [script for script in scripts if "${{" in script]


def test_every_make_target_that_is_called_exists() -> None:
    scripts = [step["run"] for path in WORKFLOWS for step in steps(path.name) if "run" in step] + gitlab_scripts()
    called = {
        word for text in scripts for line in re.findall(r"^\s*make (.+)$", text, re.MULTILINE) for word in line.split()
    }
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"lint", "test", "image"} <= called
    assert {word for word in called if "=" not in word} <= targets


def test_both_test_each_python_with_the_same_servers() -> None:
    of_github = workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]["include"]
    of_gitlab = yaml.safe_load(GITLAB.read_text())["test"]["parallel"]["matrix"]
    assert [{name.upper(): value for name, value in each.items()} for each in of_github] == of_gitlab
    assert {each["python"] for each in of_github} == {f"3.{minor}" for minor in TESTED_PYTHON}


def test_what_is_published_has_passed_all_checks_first() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert jobs["checks"]["uses"] == "./.github/workflows/ci.yml"
    for name in ("pypi", "image"):
        assert set(jobs[name]["needs"]) == {"checks", "dist"}
    jobs = yaml.safe_load(GITLAB.read_text())
    checks = {name for name, job in jobs.items() if isinstance(job, dict) and job.get("stage") == "check"}
    assert set(jobs["pypi"]["needs"]) == checks | {"dist"}


# The version


def version(*arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, root / ".ci" / "version.py", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in (".ci", "deploy", "docs/how-to"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "docker-compose.yml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_every_file_states_the_same_version() -> None:
    done = version()
    assert (done.returncode, done.stderr) == (0, "")


def test_a_tag_with_another_version_is_refused() -> None:
    done = version("9.9.9")
    assert done.returncode == 1
    assert "pyproject.toml" in done.stderr


@pytest.mark.parametrize(("new", "of_chart"), [("2.0.0", "2.0.0"), ("2.0.0rc3", "2.0.0-rc3")])
def test_one_command_sets_the_version_everywhere(copy: Path, new: str, of_chart: str) -> None:
    assert version("--set", new, root=copy).stdout == f"version={new}\n"
    assert version(new, root=copy).returncode == 0
    chart = yaml.safe_load((copy / "deploy/helm/signalbus-relay/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (of_chart, new)
    changed = copy / "docker-compose.yml"
    changed.write_text(changed.read_text().replace(f"VERSION: {new}", "VERSION: 1.9.9"))
    assert "docker-compose.yml: 1.9.9" in version(root=copy).stderr


def test_the_notes_of_a_release_are_its_section_of_the_changelog(copy: Path) -> None:
    (copy / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [2.0.0] - 2030-01-01\n\nNew.\n\n## [1.0.0]\n"
    )
    version("--set", "2.0.0", root=copy)
    assert version("--notes", root=copy).stdout == "New.\n"
    version("--set", "2.0.1", root=copy)
    assert "no section [2.0.1]" in version("--notes", root=copy).stderr


# The manual page


def test_the_manual_page_has_every_command_and_groff_accepts_it(tmp_path: Path) -> None:
    page = tmp_path / "signalbus-relay.1"
    subprocess.run([sys.executable, ROOT / ".ci" / "man.py", page], check=True)
    text = page.read_text()
    for name in re.findall(
        r"^## (signalbus-relay .+)$", (ROOT / "docs/reference/commands.md").read_text(), re.MULTILINE
    ):
        assert f".SS {name}".replace("-", r"\-") in text
    assert r"\fB\-\-poll\-interval SECONDS\fR" in text
    assert not re.search(r"\]\(|<!--|^\||`", text, re.MULTILINE)
    if not (groff := find_program("groff")):
        pytest.skip("groff is not there: how the page looks was not checked")
    done = subprocess.run(
        [groff, "-ww", "-man", "-P-c", "-P-b", "-P-u", "-Tutf8", "-K", "utf8", page],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert not [line for line in done.stderr.splitlines() if "cannot adjust" not in line and "can't break" not in line]
    assert "EXIT STATUS" in done.stdout
