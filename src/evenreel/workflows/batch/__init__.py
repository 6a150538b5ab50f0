"""Many edits from a table: read and checked before the first runs, then made here, in processes, or on Ray."""
