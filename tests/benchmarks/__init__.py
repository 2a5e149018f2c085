"""``make bench``: how fast signals go from PostgreSQL to RabbitMQ, and what that costs, against real servers."""
