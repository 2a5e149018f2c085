"""The options of the relay (``options``), and their values with the source of each (``RelayConfig`` in ``resolve``)."""
