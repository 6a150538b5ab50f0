"""What is installed here, and what hosts, inversions and metrics can be told."""
