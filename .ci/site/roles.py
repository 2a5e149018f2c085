"""Docstrings have roles of Sphinx (``:class:`Message```); in the reference they become links."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:py:)?(?:class|meth|func|mod|attr|exc|data|obj|const):`(~?)([^`]+)`")


class Roles(griffe.Extension):
    """Replaces the roles in the docstrings of each object that is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each object."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(docstring: str) -> str:
    """A docstring with code instead of roles, and with code blocks as Markdown has them."""
    text = ROLE.sub(lambda found: f"`{found[2].rsplit('.', 1)[-1] if found[1] else found[2]}`", docstring)
    return re.sub(r"::\n\n(?=    )", ":\n\n", text)
