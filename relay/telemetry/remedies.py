"""What a person can do about failed signals, by the reason of their failure. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Remedy:
    """What to do about failed signals.

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
