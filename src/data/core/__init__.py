"""Base of all datasets: the data module, its loader, its splits, its files."""
