"""Data requirements of a model: shares of the training split, fitted and extrapolated."""
