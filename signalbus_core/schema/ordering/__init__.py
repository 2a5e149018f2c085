"""The positions of signals among those of their key: column, index and triggers, and whether they are there."""
