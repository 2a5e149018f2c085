"""Atomic blocks: a transaction that is run again after a serialization failure or a deadlock."""
