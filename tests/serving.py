"""Real servers for tests: processes of their own on free loopback ports, ended by their own id."""
