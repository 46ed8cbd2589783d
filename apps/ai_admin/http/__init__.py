"""What every route shares: reading requests, writing answers and problems, CORS, and the log line."""
