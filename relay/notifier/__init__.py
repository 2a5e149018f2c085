"""Wakes the poller: LISTEN and NOTIFY, election of the leader, a test whether notifications arrive (PgBouncer)."""
