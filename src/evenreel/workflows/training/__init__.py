"""Building and checking data to train on, and training adapters on it."""
