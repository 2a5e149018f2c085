"""Wakes workers and poller: LISTEN and NOTIFY, leader election, a test whether notifications arrive (PgBouncer)."""
