"""The commands of ``signalbus-relay`` beside ``run`` and ``drill``, one module each; ``relay.cli`` lists them."""
