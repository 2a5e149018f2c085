"""Loads what is relayed: the signal models of an application, or outbox tables without an application."""
