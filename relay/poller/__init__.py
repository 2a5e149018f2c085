"""Finds work: polls the databases and measures what is pending."""
