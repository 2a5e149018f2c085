"""Wakes the poller: LISTEN and NOTIFY, and which replica answers."""
