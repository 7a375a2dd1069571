"""Reconstruction and density: scores of anomaly."""
