"""Parts that models are built from, and that are no model."""
