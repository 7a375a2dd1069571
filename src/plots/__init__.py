"""Figures: arrays in, a matplotlib Figure out."""
