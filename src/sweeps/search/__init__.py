"""Proposals of jobs: a grid, or Optuna."""
