"""`asyncjobs check` and `asyncjobs doctor`: whether all is well."""
