"""Users: what they are, what can be done with them, and how that is reached over HTTP."""
