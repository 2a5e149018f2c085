"""What consumers may rely on: the description of an application's signals, what breaks it, and a rehearsal."""
