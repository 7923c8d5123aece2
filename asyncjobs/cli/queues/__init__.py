"""`asyncjobs queues` and `asyncjobs stats`: what is in the queues."""
