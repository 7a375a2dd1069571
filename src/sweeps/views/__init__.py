"""A sweep on the terminal and as a run in MLflow."""
