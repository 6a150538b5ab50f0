"""The page: edits in a browser, on top of jobs. It holds nothing that jobs do not."""
