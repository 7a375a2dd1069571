"""Training: the loop, its randomness, schedules, callbacks."""
