"""What all datasets share: the module, its loader, its splits, its files."""
