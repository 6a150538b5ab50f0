"""What the two source papers claim, whether it holds, what is true instead, and a check of each in plain code."""
