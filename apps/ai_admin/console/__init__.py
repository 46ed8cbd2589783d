"""The console: the pages that administrators live in. They call the operations that the API calls, and nothing else."""
