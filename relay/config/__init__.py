"""The options of the relay, their values, and where each comes from."""
