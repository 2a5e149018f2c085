"""The history: SQL that moves what was sent into `signalbus_sent`, makes and drops its partitions, finds and erases."""
