"""Ground of everything else: start-up, memory, stateless randomness."""
