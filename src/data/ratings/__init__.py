"""Ratings and other interactions of users with items."""
