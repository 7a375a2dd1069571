"""Rating and ranking of items for users."""
