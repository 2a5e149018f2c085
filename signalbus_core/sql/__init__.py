"""The SQL statements: lock, delete and choose rows, find and measure the backlog. Decisions are made elsewhere."""
