"""Verification: whether two rows are of one class that training did not have."""
