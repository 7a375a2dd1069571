"""Environments stepped side by side."""
