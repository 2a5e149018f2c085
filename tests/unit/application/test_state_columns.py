"""Columns that say that not every row is to be sent: in published layouts, and in all spellings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.application.outbox_tables.catalog import ColumnFacts, TableFacts
from relay.application.outbox_tables.names import TableName
from relay.application.outbox_tables.row_choice.choice import columns_without_rule
from relay.application.outbox_tables.row_choice.state_columns import state_columns
from relay.application.outbox_tables.rules import TableRules

#: Columns as ``name type``; what is NOT NULL has an exclamation mark. What is found of them comes second.
LAYOUTS = {
    "MassTransit": (
        "SequenceNumber int8, EnqueueTime timestamptz, SentTime timestamptz!, Headers text, MessageId uuid, Body text",
        "EnqueueTime",
    ),
    "MassTransit in lower case": ("sequencenumber int8, enqueuetime timestamptz, senttime timestamptz!", "enqueuetime"),
    "CAP": (
        (
            "Id int8, Version varchar, Name varchar, Content text, Retries int4, Added timestamp, ExpiresAt timestamp,"
            " StatusName varchar"
        ),
        "StatusName",
    ),
    "Wolverine": ("id uuid, owner_id int4, destination varchar, deliver_by timestamptz, body bytea", "owner_id"),
    "NServiceBus": (
        "MessageId varchar, Dispatched bool, DispatchedAt timestamp, PersistenceVersion varchar, Operations jsonb",
        "Dispatched DispatchedAt",
    ),
    "Brighter": (
        (
            "Id int8, MessageId varchar, Topic varchar, Timestamp timestamptz, Dispatched timestamptz,"
            " HeaderBag text, Body text"
        ),
        "Dispatched",
    ),
    "SlimMessageBus": (
        (
            "id uuid, timestamp timestamptz, bus_name text, message_payload bytea, lock_instance_id text,"
            " lock_expires_on timestamptz, delivery_attempt int4, delivery_complete bool, delivery_aborted bool"
        ),
        "lock_instance_id lock_expires_on delivery_complete delivery_aborted",
    ),
    "Eventuate Tram": (
        "id varchar, destination varchar, headers varchar, payload varchar, published int2, creation_time int8",
        "published",
    ),
    "namastack": (
        (
            "id varchar, status varchar, payload text, completed_at timestamptz, retry_count int4,"
            " next_retry_at timestamptz, partition int4"
        ),
        "status completed_at next_retry_at",
    ),
    "transaction-outbox": (
        (
            "id varchar, invocation text, nextattempttime timestamp, attempts int4, version int4, blocked bool,"
            " processed bool, lastattempttime timestamp, uniquerequestid varchar"
        ),
        "nextattempttime blocked processed",
    ),
    "Spring Modulith": (
        "id uuid, listener_id text, event_type text, publication_date timestamptz!, completion_date timestamptz",
        "completion_date",
    ),
    "django-outbox-pattern": (
        "id int8, destination varchar, body jsonb, added timestamptz, expires_at timestamptz, status int2",
        "status",
    ),
    "outboxer": ("id int8, status text, queued_at timestamptz, updated_at timestamptz, messageable_id text", "status"),
    "Symfony Messenger": (
        (
            "id int8, body text, headers text, queue_name varchar, created_at timestamp, available_at timestamp,"
            " delivered_at timestamp"
        ),
        "available_at delivered_at",
    ),
    "Laravel": (
        "id int8, queue varchar, payload text, attempts int2, reserved_at int4, available_at int4, created_at int4",
        "reserved_at available_at",
    ),
    "pg-transactional-outbox": (
        (
            "id uuid, payload jsonb, locked_until timestamptz, created_at timestamptz, processed_at timestamptz,"
            " abandoned_at timestamptz, started_attempts int2"
        ),
        "locked_until processed_at abandoned_at",
    ),
    "pkritiotis/go-outbox": (
        (
            "id varchar, data bytea, state int4, created_on timestamp, locked_by varchar, locked_on timestamp,"
            " processed_on timestamp, number_of_attempts int4, error varchar"
        ),
        "state locked_by locked_on processed_on",
    ),
    "outbox-pattern-processor": (
        "idempotent_key uuid, payload text, processing_until timestamptz!, processed_at timestamptz",
        "processing_until processed_at",
    ),
    "Oban": (
        "id int8, state enum, queue text, scheduled_at timestamp, attempted_at timestamp, completed_at timestamp",
        "state scheduled_at completed_at",
    ),
    "pgmq": ("msg_id int8, read_ct int4, enqueued_at timestamptz, vt timestamptz, message jsonb", "vt"),
    "Debezium": ("id uuid, aggregatetype varchar, aggregateid varchar, type varchar, payload jsonb", ""),
    "watermill": ("offset int8, uuid varchar, created_at timestamp, payload json, metadata json", "offset"),
    "watermill's queue": ("offset int8, uuid varchar, payload json, metadata json, acked bool!", "offset acked"),
    "Axon's event store": (
        "global_index int8, event_identifier varchar, payload bytea, sequence_number int8, time_stamp varchar",
        "global_index",
    ),
    "Axon's dead letters": (
        "dead_letter_id varchar, enqueued_at timestamptz, last_touched timestamptz, processing_started timestamptz",
        "processing_started",
    ),
    "pgq": ("ev_id int8, ev_time timestamptz, ev_txid int8, ev_retry int4, ev_type text, ev_data text", "ev_txid"),
    "kombu": ("id int4, visible bool, timestamp timestamp, payload text, version int2, queue_id int4", "visible"),
    "River": (
        (
            "id int8, state enum!, attempt int2, attempted_at timestamptz, finalized_at timestamptz,"
            " scheduled_at timestamptz!, args jsonb, kind text, queue text"
        ),
        "state finalized_at scheduled_at",
    ),
    "que": (
        "id int8, run_at timestamptz, error_count int4, finished_at timestamptz, expired_at timestamptz",
        "run_at finished_at expired_at",
    ),
    "faststream-outbox": (
        (
            "id int8, queue text, payload bytea, headers jsonb, created_at timestamptz, next_attempt_at timestamptz!,"
            " last_attempt_at timestamptz, acquired_at timestamptz, acquired_token uuid"
        ),
        "next_attempt_at acquired_at",
    ),
    "Open Outbox": (
        (
            "event_id uuid, event_type text, payload bytea, status text, attempts int4, available_at timestamptz,"
            " locked_by text, lock_expires_at timestamptz"
        ),
        "status available_at locked_by lock_expires_at",
    ),
    "Rails, transactional outbox": (
        "id int8, event_name varchar, arguments jsonb, failed_at timestamp, processed_at timestamp, retry_at timestamp",
        "failed_at processed_at retry_at",
    ),
    "EventSauce": ("id int8, consumed bool!, payload text", "consumed"),
    "nestjs-inbox-outbox": (
        "id int8, event_name varchar, event_payload json, ready_to_retry_after int8, expire_at int8, inserted_at int8",
        "ready_to_retry_after",
    ),
    "enqueue": (
        "id uuid, body text, headers text, delayed_until int8, redeliver_after int8, delivery_id uuid",
        "delayed_until redeliver_after",
    ),
    "Sequin": ("id int8, data jsonb, not_visible_until timestamptz, deliver_count int4", "not_visible_until"),
    "oagudo/outbox": ("id uuid, created_at timestamptz, context bytea, payload bytea", ""),
    "our own": (
        (
            "id int8, exchange text, routing_key text, body bytea, headers jsonb, priority int2, delivery_mode int2,"
            " expiration int4, timestamp timestamptz, created_at timestamptz, user_id text, app_id text"
        ),
        "",
    ),
}


def column(text: str) -> ColumnFacts:
    name, kind = text.split()
    return ColumnFacts(name, kind.rstrip("!"), kind.rstrip("!"), None, is_required=kind.endswith("!"))


def columns(text: str) -> tuple[ColumnFacts, ...]:
    return tuple(column(one) for one in text.split(", ")) if ", " in text else (column(text),)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts_are_known_by_their_columns(layout: str) -> None:
    text, expected = LAYOUTS[layout]
    assert [one.column.name for one in state_columns(columns(text), ())] == expected.split()


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        *((text, True) for text in ("is_sent bool", "Sent bool", "dateSent timestamp", "ProcessedOnUtc timestamptz")),
        *(
            (text, True)
            for text in ("kafka_published_at timestamp", "OrderStatus text", "done bool", "isprocessed int2")
        ),
        *((text, True) for text in ("PUBLISHED_AT timestamp", "sent-at timestamptz", "outbox_state enum", "eta date")),
        *(
            (text, True)
            for text in ("available bool", "is_new bool", "to_send bool", "mq_sent int2", "ack_flag bpchar")
        ),
        *((text, True) for text in ("run_at timestamptz", "deliver_at timestamp", "send_after timestamptz")),
        *((text, False) for text in ("statement text", "sender text", "published_by text", "owner_id int8")),
        *((text, False) for text in ("status jsonb", "sent_to text", "state_of_matter text", "locked_by jsonb")),
        *((text, False) for text in ("retries int4", "last_error text", "occurred_at timestamptz", "process text")),
    ],
)
def test_names_are_known_in_all_spellings_if_their_type_fits(text: str, is_found: bool) -> None:
    assert bool(state_columns(columns(text), ())) is is_found


def test_a_constant_default_stands_for_not_yet() -> None:
    epoch = "'1970-01-01 00:00:00+00'::timestamp with time zone"
    given = ColumnFacts("sent_at", "timestamptz", "timestamptz", None, True, epoch)
    always = ColumnFacts("sent_at", "timestamptz", "timestamptz", None, True, "now()")
    assert [one.column for one in state_columns([given, always], ())] == [given]


def left(text: str, **said: object) -> tuple[list[str], list[str]]:
    name = TableName(None, "outbox")
    rules = TableRules(name, {}, **said)  # type: ignore[arg-type]
    unclear, early = columns_without_rule(TableFacts(name, 1, "r", columns(text)), rules, {"kind"})
    return [one.column.name for one in unclear], [one.column.name for one in early]


def test_a_time_settles_itself_and_a_condition_everything() -> None:
    text = "status text, available_at timestamptz, kind int4"
    assert left(text) == (["status", "available_at"], [])
    assert left(text, not_before=("available_at",)) == (["status"], [])
    assert left(text, where="status = 'NEW'") == ([], ["available_at"])
    assert left(text, where="status = 'NEW'", not_before=("available_at",)) == ([], [])
    assert left(text, where="Available_At < now()") == ([], [])
    assert left(text, all_rows=True) == ([], [])
    assert left("kind int4, state text") == (["state"], [])


def test_the_reasons_on_the_adoption_page_are_those_that_the_command_gives() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "adopt.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (its column .+?) \| .+ \|$", page, re.MULTILINE)
    assert len(rows) >= 9
    for layout, reason in rows:
        found = state_columns(columns(LAYOUTS[layout][0]), ())
        assert reason in [f"its column {one.column.name!r} looks like {one.meaning.value}" for one in found], layout
