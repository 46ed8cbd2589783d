"""The log that proves what was done: events, their seals, and how to check both."""
