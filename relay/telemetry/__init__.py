"""What is told: metrics, status, health, incidents and logs."""
