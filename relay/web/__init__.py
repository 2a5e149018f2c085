"""The HTTP site: page, JSON API, health and metrics. What they show is kept in ``relay/telemetry``.

How the page looks, and which columns its tables have, is in ``templates/page.html``.

Invariant: a request never delays a worker. It reads the recorded status; where it has to query a database, it uses a
separate connection, with short time limits, one request at a time.
"""
