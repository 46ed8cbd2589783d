"""Stages of Fission: their profiles, what is rendered of them, and how that is applied and verified."""
