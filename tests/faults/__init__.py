"""What breaks under load, and what the clients' own books say afterwards."""
