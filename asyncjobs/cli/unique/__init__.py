"""`asyncjobs unique`: who holds which unique key, and freeing one."""
