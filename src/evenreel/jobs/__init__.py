"""Jobs: folders that keep what an edit has done so far, so that one that was stopped goes on, and what edits share."""
