"""A model of a store in plain Python, and a state machine that holds each store to it."""
