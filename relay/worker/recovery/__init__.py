"""How a model's backlog is sent after an outage: no faster than its consumers bear, and not before new signals."""
