"""What `signalbus-relay ddl` prints can be run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tests.support import prefork
from tests.support.processes import COMMAND

if TYPE_CHECKING:
    from tests.acceptance.conftest import Shop


def test_what_ddl_autovacuum_prints_sets_all_tables_of_app(shop: Shop) -> None:
    def printed(*arguments: str) -> str:
        done = prefork.run([COMMAND, "ddl", *arguments], os.environ | shop.environ, shop.directory)
        done.check_returncode()
        return done.stdout

    of_application = printed("autovacuum", "--app", "shop:create_app")
    assert of_application == printed("autovacuum", "invoice", "order", "signalbus_parked")
    shop.execute(printed("parked"))
    for _ in range(2):
        shop.execute(of_application)
    with shop.engine.connect() as connection:
        tables = "SELECT relname FROM pg_class WHERE 'autovacuum_vacuum_scale_factor=0' = ANY (reloptions) ORDER BY 1"
        assert connection.scalars(sa.text(tables)).all() == ["invoice", "order", "signalbus_parked"]


@pytest.mark.parametrize("command", ["outbox", "doorbell", "autovacuum", "ids"])
def test_name_of_a_table_is_nothing_but_a_name(command: str, shop: Shop) -> None:
    name = 'out\n; CREATE TABLE injected (id int); -- \t "'
    quoted = '"{}"'.format(name.replace('"', '""'))
    if command != "outbox":
        shop.execute(f"CREATE TABLE {quoted} (id bigint PRIMARY KEY)".replace(":", "\\:"))
    given = '"{}"'.format(name.replace('"', '""'))
    done = prefork.run([COMMAND, "ddl", command, given], os.environ | shop.environ, shop.directory)
    assert done.returncode == 0, done.stderr
    shop.execute(done.stdout)
    with shop.engine.connect() as connection:
        tables = set(connection.scalars(sa.text("SELECT relname FROM pg_class WHERE relkind = 'r'")))
    assert name in tables
    assert "injected" not in tables
