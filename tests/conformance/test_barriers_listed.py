"""The cases of asyncjobs.testing.conformance.barriers_listed on each store."""

from asyncjobs.testing.conformance.barriers_listed import *
