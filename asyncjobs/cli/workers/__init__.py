"""`asyncjobs workers`."""
