"""What is written of an edit: its record, its job's folder, what it took."""
