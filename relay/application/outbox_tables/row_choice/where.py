"""Checks the SQL condition of the rows that are sent. Pure: whether it is valid SQL, the database decides.

It is inserted into other statements in parentheses. Invariant: it cannot break out of them: it is one condition,
without comments, with closed quotes and parentheses.
"""

from __future__ import annotations

import re
from typing import Any

#: PostgreSQL's quoted tokens, which may contain anything; else the single characters that matter.
# https://www.postgresql.org/docs/current/sql-syntax-lexical.html
_TOKEN = re.compile(
    r"""
    (?P<quoted> (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")+"
              | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$ )
    | (?P<open> (?<![\w$])[eE]' | ['"] )
    | (?P<call> [^\W\d][\w$]* (?=\s*\() )
    | (?P<word> [\w$]+ )
    | (?P<comment> -- | /\* )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


def condition(value: Any, what: str = "condition", example: str = "status = 'NEW'") -> str:
    """The condition, unchanged.

    :param what: it is, in the words of an error, with an example.
    :raises ValueError: it is no single condition.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise ValueError(f"a {what} of SQL is expected, for example {example}")
    if "\0" in text or text != text.encode(errors="replace").decode():
        raise ValueError(f"the {what} must be UTF-8, without NUL")
    depth = 0
    for token in _TOKEN.finditer(text):
        if token["comment"]:
            raise ValueError(f"the {what} has a comment in it; leave it out")
        if token["other"] == ";":
            raise ValueError(f"one {what} is expected, and there is a semicolon in it")
        if token["open"]:
            raise ValueError(f"a quote of the {what} is not closed")
        depth += {"(": 1, ")": -1}.get(token["other"] or "", 0)
        if depth < 0:
            break
    if depth:
        raise ValueError(f"the parentheses of the {what} do not match")
    return text


def called(text: str) -> list[str]:
    """The names of functions that a condition may call, folded to lower case as in PostgreSQL."""
    return sorted({token["call"].lower() for token in _TOKEN.finditer(text) if token["call"]})


def parts(text: str) -> list[str]:
    """The parts between commas that are outside of quotes and parentheses."""
    found, depth = [""], 0
    for token in _TOKEN.finditer(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token["other"] or "", 0)
        if token["other"] == "," and not depth:
            found.append("")
        else:
            found[-1] += token[0]
    return found
