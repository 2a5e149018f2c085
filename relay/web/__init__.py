"""What the relay serves over HTTP: health, metrics, the status page, and what an operator can do there.

A request never keeps a worker waiting. It reads what others noted; where it has to ask a database, it does so on a
connection of its own, with short limits, and one at a time.
"""
