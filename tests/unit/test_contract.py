"""What of a schema breaks consumers, and that a description is read as it was written."""

from __future__ import annotations

from typing import Any

import pytest

from relay.contract.described import Described
from relay.contract.document import from_text, to_document, to_text
from relay.contract.schema_changes import breaking_changes


@pytest.mark.parametrize(
    ("word", "old", "new", "breaks"),
    [
        ("minimum", 5, 5, False),
        ("minimum", 5, 4, True),
        ("minimum", 5, 6, False),
        ("maxLength", 5, 5, False),
        ("maxLength", 5, 4, False),
        ("maxLength", 5, 6, True),
        ("maxLength", "x", "x", False),
        ("maxLength", "x", 6, True),
        ("exclusiveMinimum", True, False, True),
    ],
)
def test_limit_that_allows_more_breaks_consumers(word: str, old: Any, new: Any, breaks: bool) -> None:
    found = list(breaking_changes({word: old}, {word: new}, "total", is_certain=True))
    assert found == ([f"the field total is limited less by {word}"] if breaks else [])


@pytest.mark.parametrize("word", ["const", "default", "enum", "examples"])
def test_values_that_look_like_references_stay_values(word: str) -> None:
    looks = {"$ref": "#/$defs/Gone"}
    link = {word: looks if word in ("const", "default") else [looks]}
    # A property may have the name of such a word.
    schema = {"properties": {"link": link, word: {"$ref": "#/$defs/Note"}}, "$defs": {"Note": {"type": "string"}}}
    written = to_text(to_document([Described("Order", "Order", None, None, None, None, schema)], "shop", "1"))
    [read] = from_text(written)
    assert read.payload is not None
    assert read.payload["properties"] == {"link": link, word: {"type": "string"}}
