"""The cases of asyncjobs.testing.conformance.look_closer on each store."""

from asyncjobs.testing.conformance.look_closer import *
