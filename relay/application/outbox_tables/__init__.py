"""Outbox tables without an application: found in the database, checked, and made into signal models.

What a table's columns mean is decided before anything is sent, and all that is wrong with all tables is told at once.
"""
