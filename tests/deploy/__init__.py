"""What stands in Dockerfile, docker-compose.yml and deploy/ is valid, agrees with the code, and loses nothing."""
