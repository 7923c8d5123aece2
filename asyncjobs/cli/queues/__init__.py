"""`asyncjobs queues` and `asyncjobs stats`: what the queues hold."""
