"""What is done where an edit fails: advice, and pictures that are kept."""
