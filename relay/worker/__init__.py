"""Sends bursts, and decides from their results when each model and each failed signal is tried again."""
