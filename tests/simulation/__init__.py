"""Client, workers and store on one virtual clock, in an order that a seed decides.

loop.py runs handles and knows processes · patching.py replaces time and chance ·
clock_steps.py sets the store's clock · wire.py carries calls to the store and loses, delays and
doubles them · ledger.py says what must hold, from outside of the store, with stories.py and
leases.py, and rules.py for pauses, orders and unique keys · load.py has the jobs and the client ·
operating.py has the operator · world.py lives one seed from its start to its
end · planted.py has bugs to be found.
"""
