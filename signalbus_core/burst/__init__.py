"""The burst, the critical section: lock and load, send, delete, commit.

A row that cannot be loaded is found by ``lock``, a row that cannot be deleted by ``undeletable``.
"""
