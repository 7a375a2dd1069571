"""Launchers of jobs: a pool on this machine, Ray, SLURM."""
