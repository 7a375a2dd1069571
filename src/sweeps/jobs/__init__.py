"""The jobs of a sweep: frozen, recorded, run."""
