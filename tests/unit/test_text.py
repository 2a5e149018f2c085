"""How commands show things."""

from __future__ import annotations

import io
import subprocess
from datetime import datetime, timedelta, timezone

import pytest

from relay.text import coloured, comment, duration_text, one_line, say, shell_word, table, time_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_stand_under_names_and_no_line_ends_in_blanks() -> None:
    lines = table(("MODEL", "N", "WHY"), [("Order", "10000+", ""), ("A", "2", "no route")])
    assert lines == ["MODEL  N       WHY", "Order  10000+", "A      2       no route"]


def test_a_table_without_rows_has_its_head() -> None:
    assert table(("MODEL", "N"), []) == ["MODEL  N"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (47 * 3600 + 59 * 60, "47 h 59 min"),
        (50 * 3600, "2 d 2 h"),
    ],
)
def test_durations_have_the_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_moments_are_shown_in_utc() -> None:
    berlin = timezone(timedelta(hours=2))
    assert time_text(datetime(2026, 7, 1, 12, 0, 1, 999, berlin)) == "2026-07-01T10:00:01Z"
    assert time_text(None) is None


@pytest.mark.parametrize(
    ("environ", "stream", "is_coloured"),
    [
        ({}, Terminal(), True),
        ({}, io.StringIO(), False),
        ({"NO_COLOR": "1"}, Terminal(), False),
        ({"NO_COLOR": ""}, Terminal(), True),
        ({"TERM": "dumb"}, Terminal(), False),
    ],
)
def test_colours_are_for_terminals_of_users_who_want_them(
    environ: dict[str, str], stream: io.StringIO, is_coloured: bool
) -> None:
    text = coloured("late", "red", environ, stream)
    assert ("\x1b[" in text) == is_coloured
    assert "late" in text


def test_foreign_text_moves_no_cursor_and_breaks_no_line() -> None:
    assert one_line("a\nb\x1b[31mc\u202ed\u00e9") == "a b [31mc d\u00e9"


#: Each breaks a line, moves the cursor of a terminal, or turns the direction of what follows.
EVIL = ["\n", "\r", "\x1b[2J", "\x9b", "\x00", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\ufeff"]


@pytest.mark.parametrize("evil", EVIL)
def test_what_commands_print_is_one_printable_line(evil: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"a{evil}b", mark="!", colour="red", environ={"NO_COLOR": "1"})
    [line, end] = capsys.readouterr().out.split("\n")
    assert line.isprintable()
    assert end == ""
    assert comment(f"a{evil}b").isprintable()
    assert all(line.isprintable() for line in table(("KEY", "WHY"), [(f"a{evil}b", f"c{evil}d")]))


@pytest.mark.parametrize("text", ["42", "a b", "it's", "a\nb'c\\d", "\x1b[2J", "\u202ea", '["1", "2\\n"]'])
def test_word_for_the_shell_is_printable_and_exact(text: str) -> None:
    word = shell_word(text)
    assert word.isprintable()
    done = subprocess.run(
        ["bash", "-c", f"printf %s {word}"],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/bin:/usr/bin"},
    )
    assert done.stdout.decode() == text
