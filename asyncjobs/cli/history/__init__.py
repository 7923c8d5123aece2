"""`asyncjobs history`: jobs that have ended, and what job functions took."""
