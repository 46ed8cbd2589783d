"""AI Admin: the user directory of an AI platform."""

__version__ = "0.1.0"
