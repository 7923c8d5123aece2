"""`asyncjobs dead`: look at jobs that have failed for good, run them again, or delete them."""
