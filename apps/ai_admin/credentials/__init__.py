"""Credentials of users at providers: set, replaced, restored, removed, and revealed to who may use them."""
