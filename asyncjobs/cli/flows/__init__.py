"""`asyncjobs flows`: look at flows, cancel them and retry them."""
