"""Metrics, status, health, incidents and logs."""
