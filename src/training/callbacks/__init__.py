"""Callbacks of Lightning: checkpoints, progress, averaging, stopping, records."""
