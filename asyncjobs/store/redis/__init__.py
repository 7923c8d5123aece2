"""Redis and Valkey as a store: the only package that imports the redis driver.

keys.py lays out the data, lua/ holds what happens to it, scripts.py loads and calls
that, link.py is one connection, backend.py speaks the seam.
"""
