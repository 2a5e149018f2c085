"""What there is to send, and how much: one query for many models."""
