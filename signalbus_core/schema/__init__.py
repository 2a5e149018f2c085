"""The database schema: tables, columns, triggers and storage parameters."""
