"""The process beside a run that writes it to MLflow."""
