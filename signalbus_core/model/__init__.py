"""The signal-model contract: what a model offers to be sent, resolved once."""
