"""The signal-model contract: what a model must define to be sent, resolved once."""
