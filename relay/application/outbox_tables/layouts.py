"""Known layouts of outbox tables: the field of each column, which rows are to be sent, and how sent rows are marked.

Data alone. Columns are found without regard to case and underscores, because some libraries have naming conventions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The layout of a table.

    :param fields: the field of each column.
    :param where: which rows are to be sent, as a condition of SQL; None for all.
    :param done: what marks a row as sent, as assignments of SQL; None where it is deleted.
    :param not_before: columns with a time before which a row is not sent.
    """

    fields: Mapping[str, str]
    where: str | None = None
    done: str | None = None
    not_before: tuple[str, ...] = ()


LAYOUTS: Mapping[str, Layout] = {
    # https://debezium.io/documentation/reference/stable/transformations/outbox-event-router.html
    "debezium": Layout(
        {
            "id": "message_id",
            "aggregatetype": "routing_key",
            "aggregateid": "headers.aggregateid",
            "type": "message_type",
            "payload": "body",
        }
    ),
    # https://github.com/efureev/go-outbox: migrations/0001_messages.sql
    "go-outbox": Layout(
        {
            "id": "message_id",
            "topic": "routing_key",
            "stream": "headers.stream",
            "payload": "body",
            "headers": "headers",
        },
        where="status = 0",
        done="status = 2, dispatched_at = now()",
        not_before=("available_at",),
    ),
    # https://github.com/juntossomosmais/django-outbox-pattern: models.py (Published), choices.py
    "django-outbox-pattern": Layout(
        {"id": "message_id", "destination": "routing_key", "body": "body", "headers": "headers", "added": "created_at"},
        where="status = 1",
        done="status = 2",
    ),
    # https://masstransit.io/documentation/configuration/middleware/outbox: delivered rows are deleted there too
    "masstransit": Layout(
        {
            "MessageId": "message_id",
            "MessageType": "headers.MessageType",
            "ContentType": "content_type",
            "Body": "body",
            "Headers": "headers",
            "CorrelationId": "correlation_id",
            "ConversationId": "headers.ConversationId",
            "DestinationAddress": "headers.DestinationAddress",
            "SentTime": "timestamp",
        },
        not_before=("EnqueueTime",),
    ),
    # https://github.com/namastack/namastack-outbox: schema/postgres/outbox-tables.sql
    "namastack": Layout(
        {
            "id": "message_id",
            "record_type": "message_type",
            "record_key": "headers.record_key",
            "payload": "body",
            "context": "headers",
        },
        where="status = 'NEW'",
        done="status = 'COMPLETED', completed_at = now()",
        not_before=("next_retry_at",),
    ),
    # https://github.com/eventuate-foundation/eventuate-common: eventuate.message
    "eventuate": Layout(
        {"id": "message_id", "destination": "routing_key", "headers": "headers", "payload": "body"},
        where="published = 0",
        done="published = 1",
    ),
    # https://github.com/dotnetcore/CAP: DotNetCore.CAP.PostgreSql, IStorageInitializer.PostgreSql.cs; its collector
    # deletes rows after "ExpiresAt".
    "cap": Layout(
        {"Name": "routing_key", "Content": "body", "Version": "headers.version"},
        where="\"StatusName\" = 'Scheduled'",
        done="\"StatusName\" = 'Succeeded', \"ExpiresAt\" = now() + interval '1 day'",
    ),
    # https://github.com/open-outbox/spec: examples/postgres.sql (draft)
    "open-outbox": Layout(
        {
            "event_id": "message_id",
            "event_type": "routing_key",
            "partition_key": "headers.partition_key",
            "occurred_at": "timestamp",
            "payload": "body",
            "headers": "headers",
        },
        where="status = 'PENDING'",
        done="status = 'DELIVERED'",
        not_before=("available_at",),
    ),
}


def column_of(name: str, known: Mapping[str, object]) -> str:
    """The column that a layout names: of this name, else of the same letters; else the name itself."""
    return name if name in known else next((one for one in known if _letters(one) == _letters(name)), name)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
