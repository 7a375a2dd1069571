"""Runs from configuration to results: assembly, training, artifacts."""
