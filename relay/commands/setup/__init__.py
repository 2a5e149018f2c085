"""What a person runs once: completion for the shell, and the files of a new application."""
