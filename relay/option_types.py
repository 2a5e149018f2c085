"""Reads the values of options: each function returns a valid value, or its ValueError says what is expected.

Values come from the command line and the environment as texts, and from an application's configuration as any object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def read_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text is expected")
    return value.strip()


def read_count(least: int, most: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        number = _number(value, int)
        if not isinstance(number, int) or not least <= number <= most:
            raise ValueError(f"a whole number from {least} to {most} is expected")
        return number

    return parse


def read_seconds(least: float, most: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        number = _number(value, float)
        # Comparisons with NaN are false.
        if number is None or not least <= number <= most:
            raise ValueError(f"seconds from {least:g} to {most:g} are expected")
        return float(number)

    return parse


def _number(value: Any, kind: type[int | float]) -> int | float | None:
    try:
        number = kind(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return number if isinstance(number, (int, float)) and not isinstance(number, bool) else None


def read_choice(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        for choice in allowed:
            if isinstance(value, str) and value.lower() == choice.lower():
                return choice
        raise ValueError(f"one of {', '.join(allowed)} is expected")

    return parse


def read_flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        return value.lower() in ("1", "true", "yes", "on")
    raise ValueError("yes or no is expected")
