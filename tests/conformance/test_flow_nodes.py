"""The cases of asyncjobs.testing.conformance.flow_nodes on each store."""

from asyncjobs.testing.conformance.flow_nodes import *
