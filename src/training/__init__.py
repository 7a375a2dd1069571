"""What surrounds the training loop, as Lightning callbacks: checkpoints, randomness, recording, stopping, progress."""
