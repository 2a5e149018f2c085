"""The routes of the HTTP site: page, JSON API, health and metrics. What they show is kept in ``relay/telemetry``.

Invariant: a request never delays a worker. It reads the recorded status; where it has to query a database, it uses a
separate connection, with short time limits, one request at a time.
"""
