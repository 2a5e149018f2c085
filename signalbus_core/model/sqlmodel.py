"""Makes the columns of mixins attributes of SQLModel classes.

SQLModel ignores arguments that are no fields of its own, and refuses to assign them. Columns of SQLAlchemy's mixins are
no such fields: without this, a row would be written without what the application had given for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import set_attribute


def accept_columns(mapper: Mapper[Any], model: type[Any]) -> None:
    """Have a model of SQLModel accept those of its columns that are no fields of it; do nothing for other models."""
    if not hasattr(model, "__sqlmodel_relationships__"):
        return
    names = frozenset(mapper.columns.keys()) - frozenset(getattr(model, "model_fields", ()))
    cls: Any = model
    cls.__init__ = _taking(cls.__init__, names)
    cls.__setattr__ = _assigning(cls.__setattr__, names)


def _taking(init: Callable[..., None], names: frozenset[str]) -> Callable[..., None]:
    @wraps(init)
    def __init__(self: Any, *args: Any, **given: Any) -> None:
        init(self, *args, **{name: value for name, value in given.items() if name not in names})
        for name in names & given.keys():
            set_attribute(self, name, given[name])

    return __init__


def _assigning(assign: Callable[[Any, str, Any], None], names: frozenset[str]) -> Callable[[Any, str, Any], None]:
    @wraps(assign)
    def __setattr__(self: Any, name: str, value: Any) -> None:
        if name in names:
            set_attribute(self, name, value)
        else:
            assign(self, name, value)

    return __setattr__
