"""What gateways ask: whether a key is good, whose it is, and whether it may call a model."""
