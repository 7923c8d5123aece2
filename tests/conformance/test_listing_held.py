"""The cases of asyncjobs.testing.conformance.listing_held on each store."""

from asyncjobs.testing.conformance.listing_held import *
