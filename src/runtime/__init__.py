"""What runs below everything: start-up, memory, stateless randomness."""
