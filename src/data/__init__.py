"""Datasets: reading, splitting, and serving batches."""
