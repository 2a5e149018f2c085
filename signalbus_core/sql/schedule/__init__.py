"""Scheduled signals in SQL: which are due, and when the next one is. The clock is always that of the database."""
