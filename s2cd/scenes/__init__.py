"""What one date is: bands, stacks, pairs, and simulated ones."""
