"""What only the Redis backend has: addresses, TLS, the server's answers."""
