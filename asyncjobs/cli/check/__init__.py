"""`asyncjobs check` and `asyncjobs doctor`: is the store healthy?"""
