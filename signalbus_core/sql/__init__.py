"""The statements of Signalbus; none of them decides anything."""
