"""Chooses the rows to send in tables that mark rows as sent instead of deleting them."""
