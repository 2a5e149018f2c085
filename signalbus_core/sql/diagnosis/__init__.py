"""Queries that say why a signal stays: find it, name the session that has it locked or holds back VACUUM."""
