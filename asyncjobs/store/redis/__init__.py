"""Redis and Valkey as a store: the only package that imports the redis driver.

keys.py names the data, and the scripts in lua/ do everything to it. scripts.py loads and calls
them over the connections of link.py. backend.py is the store at the seam, leases.py the lease.
"""
