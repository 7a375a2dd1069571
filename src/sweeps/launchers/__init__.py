"""What starts the jobs: a pool on this machine, Ray, SLURM."""
