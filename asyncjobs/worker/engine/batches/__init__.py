"""Batch consumers in a worker: attempts that wait for each other and share one call.

Each job of a batch has an attempt of its own, with its slot, its middleware, its span and its
settlement. Only the innermost part, the call of the function, is shared. A `Collector` stands there
as the executor of one job function: it sorts its attempts into lots. A `Lot` calls the function
once, and hands each attempt its part of what comes back.
"""
