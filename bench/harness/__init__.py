"""What `bench/run.py` is made of."""
