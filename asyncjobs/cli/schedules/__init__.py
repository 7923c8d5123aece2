"""`asyncjobs schedules`: look at schedules, stop them, and let them make jobs."""
