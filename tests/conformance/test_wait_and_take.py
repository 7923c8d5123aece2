"""The cases of asyncjobs.testing.conformance.wait_and_take on each store."""

from asyncjobs.testing.conformance.wait_and_take import *
