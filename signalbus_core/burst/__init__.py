"""The burst, the critical section: lock, send, delete, commit."""
