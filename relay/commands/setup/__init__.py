"""What a person runs once: completion for the shell, the files of a new application, and the SQL for its tables."""
