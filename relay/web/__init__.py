"""The HTTP site of the relay: health, metrics, the status page, and the operator's actions.

Invariant: a request never delays a worker. It reads the recorded status; where it has to query a database, it uses a
separate connection, with short time limits, one request at a time.
"""
