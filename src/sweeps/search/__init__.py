"""What proposes the jobs: a grid, or Optuna."""
