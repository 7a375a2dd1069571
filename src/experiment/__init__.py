"""A run's life: its parts, its training, what it leaves."""
