"""Sound: clips as log-mel images."""
