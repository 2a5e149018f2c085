"""What a person can do: about failed signals by the class of their error, about incidents by action and reason. Pure.

Log, page, ``/readyz`` and commands take it from here, so that they give the same advice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from signalbus_core.rabbitmq import remedy_of_reason


@dataclass(frozen=True)
class Remedy:
    """What to do.

    :param text: in one sentence.
    :param runbook: the section of the runbook that says more.
    """

    text: str
    runbook: str


_REMEDIES = {
    "returned": Remedy(
        "Bind a queue to the exchange with the signals' routing key, then retry; signalbus-relay explain names both.",
        "SignalbusMessagesReturned",
    ),
    "nacked": Remedy(
        "Let the queue's consumers catch up, or raise its limit, then retry.",
        "SignalbusPublishFailing",
    ),
    "refused": Remedy(
        "Declare the exchange, or let the relay's login write to it, then retry.",
        "SignalbusPublishFailing",
    ),
    "closed": Remedy(
        "Mend the message, for which the broker closed the channel, or the data in the row, then retry.",
        "SignalbusPublishFailing",
    ),
    "invalid": Remedy(
        "Mend the code that makes the message, or the data in the row, then retry.",
        "SignalbusSignalsParked",
    ),
    "error": Remedy(
        "Mend the send method, or the data in the row, deploy, then retry.",
        "SignalbusSignalsParked",
    ),
    "undeleted": Remedy(
        "Remove what keeps the rows from being deleted (a foreign key, a trigger, a privilege), then retry: they were "
        "sent, and only the delete is tried.",
        "Duplicates",
    ),
}

_UNKNOWN = Remedy("See the relay's log, mend the cause, then retry.", "SignalbusPublishFailing")


def remedy_of(error_class: str) -> Remedy:
    """What to do about signals that failed so."""
    return _REMEDIES.get(error_class, _UNKNOWN)


_OF_ACTIONS = {
    "broker_down": Remedy("Check that the broker runs, and what its URL says.", "SignalbusBrokerDown"),
    "broker_blocked": Remedy(
        "Free memory or disk space of the broker, or raise its watermark.", "SignalbusBrokerBlocked"
    ),
    "database_down": Remedy(
        "Check that the database runs, and the host, the user and the password in its URL.", "SignalbusDatabaseDown"
    ),
    "burst_hangs": Remedy("End what it waits for; restarting the relay ends the burst too.", "SignalbusModelBlocked"),
    "signals_unreached": Remedy("Remove what keeps the signal from being locked.", "SignalbusModelBlocked"),
    "model_failing": Remedy("Mend what the text names; signals flow then by themselves.", "SignalbusPublishFailing"),
    "model_unread": Remedy("Mend what the text names; signals flow then by themselves.", "SignalbusModelBlocked"),
    "history_failing": Remedy(
        "Mend what the text names; signals are sent meanwhile, and are missing from the history.",
        "What was sent is not kept",
    ),
    "backlog": Remedy(
        "See that relays run and send; if they do, run more of them, or more workers.", "SignalbusBacklogGrowing"
    ),
    "lag": Remedy("Ask about the oldest signal with `signalbus-relay explain`.", "SignalbusLagHigh"),
}

_TERMINATE = re.compile(r"SELECT pg_terminate_backend\(\d+\)")

#: How the text of an outcome begins.
_ERROR_CLASS = re.compile(rf"\b({'|'.join(_REMEDIES)}): ")


def without_remedy(reason: str) -> str:
    """The reason of an incident without what ends it, which its remedy tells."""
    return reason.partition(TO_END_IT)[0]


#: How the reason of a model begins whose rows cannot be chosen.
CONDITION_FAILS = "--where cannot be evaluated for"

_OF_CONDITION = Remedy(
    "Correct that row, or write the condition so that it fails for no row, as CASE WHEN ... THEN ... END does.",
    "SignalbusModelBlocked",
)

#: How a reason tells what ends it.
TO_END_IT = "; to end it: "


def remedy_for(action: str, reason: str) -> Remedy:
    """What to do about an incident.

    :param action: that of its log lines.
    :param reason: as it is told, perhaps with the session that is to be ended or the class of an error.
    """
    general = _OF_ACTIONS.get(action, _UNKNOWN)
    if (statement := _TERMINATE.search(reason)) is not None:
        return Remedy(f"Wait until that transaction ends, or end it: {statement[0]}.", "SignalbusModelBlocked")
    if CONDITION_FAILS in reason:
        return _OF_CONDITION
    # A database and a broker can fail in the same words.
    if action != "database_down" and (of_broker := remedy_of_reason(reason)):
        return Remedy(of_broker, "SignalbusBrokerDown")
    error_class = _ERROR_CLASS.search(reason) if action in ("model_failing", "signals_set_aside") else None
    return general if error_class is None else remedy_of(error_class[1])
