"""What goes wrong at night. Each is so until the block ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .night import Night


@contextmanager
def full_table(night: Night) -> Iterator[None]:
    """Signals are written faster than they are sent."""
    with night.shop.paused("confirmed"):
        night.shop.write(1, 12_000)
        yield
    night.shop.execute("""DELETE FROM "order" """)


@contextmanager
def held_snapshot(night: Night) -> Iterator[None]:
    with night.connect(application_name="report") as other:
        other.set_session(isolation_level="REPEATABLE READ")
        other.cursor().execute('SELECT count(*) FROM "order"')
        night.shop.execute(
            """INSERT INTO "order" (routing_key, body) SELECT 'x', 'x' FROM generate_series(1, 12000);
            DELETE FROM "order" WHERE body = 'x'"""
        )
        yield


@contextmanager
def parked_signal(night: Night) -> Iterator[None]:
    night.shop.execute("""INSERT INTO "order" (routing_key, body) VALUES ('wanted', 'poison')""")
    yield
    night.forget_failures()


@contextmanager
def missing_exchange(night: Night) -> Iterator[None]:
    night.broker.delete_exchange(night.exchange)
    yield
    with night.broker.channel as channel:
        channel.exchange_declare(night.exchange, exchange_type="topic", durable=True)
    night.broker.bind(night.shop.queue, night.exchange, "wanted")
    night.forget_failures()


@contextmanager
def missing_binding(night: Night) -> Iterator[None]:
    night.broker.unbind(night.shop.queue, night.exchange, "wanted")
    yield
    night.broker.bind(night.shop.queue, night.exchange, "wanted")
    night.forget_failures()


@contextmanager
def locked_table(night: Night) -> Iterator[None]:
    with night.connect(application_name="migration") as other:
        other.cursor().execute('LOCK TABLE "order" IN ACCESS EXCLUSIVE MODE')
        yield


@contextmanager
def full_disk(night: Night) -> Iterator[None]:
    night.set_disk_limit("100000GB")
    yield
    night.set_disk_limit("50MB")


@contextmanager
def other_password(night: Night) -> Iterator[None]:
    night.set_password("second")
    yield
    night.set_password("first")


@contextmanager
def killed_database(night: Night) -> Iterator[None]:
    night.postgres.kill9()
    yield
    night.shop.engine.dispose()
    night.postgres.start()


@contextmanager
def stopped_broker(night: Night) -> Iterator[None]:
    """It is not started again."""
    night.rabbitmq.kill9()
    # It can delete nothing any more.
    night.broker.close()
    yield
