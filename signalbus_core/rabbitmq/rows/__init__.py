"""Rows as messages: the columns of outbox tables, and what sends rows without making instances of them."""
