"""Trainers, and the report on what they reached."""
