"""The vault: credentials sealed with a key of the ring, each bound to its place in the database."""
