"""Commands that speak to a server as an administrator does: over HTTP, with a key and by its rights."""
