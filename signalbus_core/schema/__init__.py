"""What stands in the database: tables, columns, triggers and storage parameters."""
