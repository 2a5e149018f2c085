"""`signalbus-relay completion`: each shell, run for real, completes commands and options."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import cli
from tests.support.prefork import stand_ins

#: What a shell runs to say how it would complete ``signalbus-relay pa`` and ``signalbus-relay parked list --gr``.
PROGRAMS = {
    "bash": """
        eval "$(signalbus-relay completion bash)"
        complete_words() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _signalbus_relay_completion signalbus-relay 2>/dev/null; printf '%s\\n' "${COMPREPLY[@]}"
        }
        complete -p signalbus-relay
        complete_words signalbus-relay pa
        complete_words signalbus-relay parked list --gr
    """,
    "zsh": """
        autoload -Uz compinit && compinit -D -u
        eval "$(signalbus-relay completion zsh)"
        compadd() { print -l -- ${(P)@[-1]} }
        _describe() { print -l -- ${(P)3} }
        complete_words() { words=("$@"); CURRENT=$#; _signalbus_relay_completion }
        print ${_comps[signalbus-relay]}
        complete_words signalbus-relay pa
        complete_words signalbus-relay parked list --gr
    """,
    "fish": """
        signalbus-relay completion fish | source
        complete --do-complete 'signalbus-relay pa'
        complete --do-complete 'signalbus-relay parked list --gr'
    """,
}


@pytest.mark.parametrize("shell", PROGRAMS)
def test_the_shell_completes_commands_and_options(shell: str, tmp_path: Path) -> None:
    if not (found := shutil.which(shell)):
        pytest.skip(f"{shell} is not installed")
    environ = {
        "PATH": f"{stand_ins(tmp_path / 'programs')}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        [found, "-c", PROGRAMS[shell]],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    words = {line.split("\t")[0].split(":")[0] for line in done.stdout.splitlines()}
    assert {"parked", "pause", "--groups"} <= words, f"{done.stdout}\n{done.stderr}"
    assert "resume" not in words


def test_a_shell_without_completion_is_refused_with_those_that_have_it() -> None:
    done = CliRunner().invoke(cli, ["completion", "csh"])
    assert done.exit_code == 2
    assert all(shell in done.output for shell in PROGRAMS)


def test_the_script_needs_no_shell_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = CliRunner().invoke(cli, ["completion", "bash"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "_SIGNALBUS_RELAY_COMPLETE=bash_complete" in done.stdout
