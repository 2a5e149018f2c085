"""What `signalbus-relay pending` tells, with the real command."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

from signalbus_core import parked_table_sql, paused_table_sql

if TYPE_CHECKING:
    from tests.acceptance.conftest import Shop


def told(shop: Shop, *arguments: str) -> dict[str, dict[str, Any]]:
    done = shop.command("pending", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return {line["model"]: line for line in map(json.loads, done.stdout.splitlines())}


def give_times(shop: Shop) -> None:
    """Have the models say when their signals were written."""
    path = shop.directory / "shop.py"
    body = "    body = db.Column(db.Text, nullable=False)\n"
    column = "    created_at = db.Column(db.DateTime(timezone=True), server_default=db.func.now())\n"
    path.write_text(path.read_text().replace(body, body + column))
    for name in ("order", "invoice"):
        shop.execute(f'ALTER TABLE "{name}" ADD created_at timestamptz DEFAULT now()')


def test_backlog_age_pause_and_what_is_set_aside_are_told_by_model(shop: Shop) -> None:
    give_times(shop)
    with shop.engine.begin() as connection:
        connection.exec_driver_sql(parked_table_sql() + paused_table_sql())
    shop.write(1, 10_001)
    shop.execute(
        "INSERT INTO signalbus_parked SELECT 'order', n::text, 'Order', 1, now(), now(), "
        "CASE WHEN n > 2 THEN now() END, 'returned', '' FROM generate_series(1, 5) n"
    )
    began = time.monotonic()
    shop.execute("""UPDATE "order" SET created_at = now() - interval '3700 s' WHERE id = 1""")
    shop.command("pause", "Order", "--reason", "moving\nthe queue")
    both = told(shop)
    assert list(both) == ["Invoice", "Order"]
    order = both["Order"]
    assert (order["signals"], order["is_exact"], order["waiting"], order["parked"]) == (10_000, False, 3, 2)
    assert 3700 <= order["oldest_age_seconds"] <= 3701 + time.monotonic() - began
    assert order["pause_reason"] == "moving\nthe queue"
    assert (both["Invoice"]["signals"], both["Invoice"]["oldest_age_seconds"]) == (0, None)
    assert told(shop, "--exact", "Order")["Order"]["signals"] == 10_001

    text = shop.command("pending").stdout
    head, invoice, shown, to_do = text.splitlines()
    assert to_do == "To do: `signalbus-relay resume Order` ends it."
    assert head.split() == ["MODEL", "SIGNALS", "OLDEST", "WAITING", "PARKED", "STATE"]
    assert invoice.split() == ["Invoice", "0", "-", "0", "0", "idle"]
    assert "10000+" in shown
    [minutes] = re.findall(r" 1 h (\d+) min ", shown)
    assert 1 <= int(minutes) <= 1 + (41 + time.monotonic() - began) // 60
    assert shown.endswith(": moving the queue")
    assert "\x1b" not in text


def test_a_lag_that_is_too_long_or_not_known_ends_with_1(shop: Shop) -> None:
    assert shop.command("pending", "--max-lag", "0").returncode == 0
    shop.write(1, 1)
    unknown = shop.command("pending", "--max-lag", "3600")
    assert unknown.returncode == 1
    assert "track_commit_timestamp" in unknown.stderr
    assert "Order    1        ?" in unknown.stdout
    give_times(shop)
    shop.execute("""UPDATE "order" SET created_at = now() - interval '100 min'""")
    assert shop.command("pending", "--max-lag", "7200").returncode == 0
    late = shop.command("pending", "--max-lag", "3600")
    assert late.returncode == 1
    assert "The oldest signal of Order is 1 h" in late.stderr
