"""The options of the relay, their values, and the source of each value."""
