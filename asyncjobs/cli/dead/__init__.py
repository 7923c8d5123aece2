"""`asyncjobs dead`: look at jobs that have failed for good, retry or drop them."""
