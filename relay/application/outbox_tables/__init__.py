"""Outbox tables without an application: found in the database, checked, and mapped to signal models.

Invariant: the meaning of each column is decided before anything is sent, and all problems of all tables are reported
together.
"""
