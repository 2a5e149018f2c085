"""Why signals stay in their tables: those that no burst can lock, and what holds back the vacuum horizon."""
