"""The broker that a publisher uses for each application. Applications with equal settings share one."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

from flask import Flask, current_app, has_app_context

from ..errors import SetupError
from .amqp.nodes import BrokerLocation, NodeOrder
from .destination_breaker import DestinationBreaker
from .thread_connections import ThreadConnections

#: The configuration key of the broker's URL, unless a publisher has another one.
URL_CONFIG_KEY = "SIGNALBUS_RABBITMQ_URL"


class Broker:
    """A broker, with the connections of the publisher's threads and the silent destinations."""

    def __init__(self, location: BrokerLocation) -> None:
        self.location = location
        self.nodes = NodeOrder(location)
        self.connections = ThreadConnections()
        self.breaker = DestinationBreaker()


@dataclass(frozen=True)
class Settings:
    """The settings of an application, compared by value.

    :param timeout_seconds: how long a publish may take; None when not configured.
    """

    broker: Broker
    timeout_seconds: float | None


class Brokers:
    """The brokers of a publisher: the one that it was given, or that of each application.

    :param url: given to the publisher.
    :param url_config_key: the key in an application's configuration, when no URL was given.
    :param timeout_seconds: given to the publisher.
    """

    def __init__(self, url: str | None, url_config_key: str, timeout_seconds: float | None) -> None:
        self.url_config_key = url_config_key
        self._timeout_seconds = positive_seconds(timeout_seconds)
        self._by_location: dict[BrokerLocation, Broker] = {}
        self._by_app: weakref.WeakKeyDictionary[Flask, Settings] = weakref.WeakKeyDictionary()
        self._given = None if url is None else Settings(self._broker_at(url), self._timeout_seconds)

    def __str__(self) -> str:
        return ", ".join(map(str, self._by_location)) or "without a URL"

    def add(self, app: Flask) -> None:
        """Take the settings from the application.

        :raises SetupError: there is no URL, or it cannot be used.
        """
        timeout_seconds = positive_seconds(app.config.get("SIGNALBUS_RABBITMQ_TIMEOUT_SECONDS"))
        url = app.config.get(self.url_config_key)
        if self._given is None and not url:
            raise SetupError(
                f"Where is RabbitMQ? Set {self.url_config_key} in the application's configuration, for example "
                "amqp://user:password@localhost:5672/ (or give Publisher a url)."
            )
        broker = self._broker_at(str(url)) if self._given is None else self._given.broker
        self._by_app[app] = Settings(broker, self._timeout_seconds or timeout_seconds)

    def settings(self, app: Flask | None = None) -> Settings:
        """The settings of an application: the current one when not given; outside of any, the only one.

        :raises SetupError: there is none, or there are several.
        """
        if app is None and has_app_context():
            app = current_app._get_current_object()  # type: ignore[attr-defined]
        if app is not None and app in self._by_app:
            return self._by_app[app]
        known = set(self._by_app.values())
        if self._given is not None and not known:
            return self._given
        if not known:
            raise SetupError("This Publisher has no URL yet. Give it one, or call init_app.")
        if len(known) > 1:
            raise SetupError("This Publisher serves several applications. Use it in the context of one of them.")
        return known.pop()

    def close(self) -> None:
        """Close all connections."""
        for broker in list(self._by_location.values()):
            broker.connections.close()

    def _broker_at(self, url: str) -> Broker:
        location = BrokerLocation(url)
        return self._by_location.setdefault(location, Broker(location))


def positive_seconds(seconds: Any) -> float | None:
    """The given time limit, checked.

    :raises SetupError: it is no positive number.
    """
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise SetupError(f"A timeout is a number of seconds above zero, not {seconds!r}.")
    return float(seconds)
