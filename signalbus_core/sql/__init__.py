"""The SQL statements of Signalbus; decisions are made elsewhere."""
