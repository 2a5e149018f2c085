"""What `signalbus-relay ddl` prints can be run."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tests.support.processes import COMMAND

if TYPE_CHECKING:
    from .conftest import Shop


def test_what_ddl_autovacuum_prints_sets_all_tables_of_the_application(shop: Shop) -> None:
    def printed(*arguments: str) -> str:
        command = [COMMAND, "ddl", *arguments]
        return subprocess.run(
            command, cwd=shop.directory, env=os.environ | shop.environ, check=True, capture_output=True, text=True
        ).stdout

    of_application = printed("autovacuum", "--app", "shop:create_app")
    assert of_application == printed("autovacuum", "invoice", "order", "signalbus_parked")
    shop.execute(printed("parked"))
    for _ in range(2):
        shop.execute(of_application)
    with shop.engine.connect() as connection:
        tables = "SELECT relname FROM pg_class WHERE 'autovacuum_vacuum_scale_factor=0' = ANY (reloptions) ORDER BY 1"
        assert connection.scalars(sa.text(tables)).all() == ["invoice", "order", "signalbus_parked"]
