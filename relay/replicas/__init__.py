"""What relays know of each other: each keeps one small row about itself, for the status pages of the others.

No relay needs it in order to send: it has a thread and a database connection of its own, and is left out where the
table ``signalbus_relays`` is missing.
"""
