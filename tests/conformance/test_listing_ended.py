"""The cases of asyncjobs.testing.conformance.listing_ended on each store."""

from asyncjobs.testing.conformance.listing_ended import *
