"""Logs: the form of a line, and its way to standard error, which nothing stops and which delays no thread."""
