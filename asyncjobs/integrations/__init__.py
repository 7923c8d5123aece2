"""Fits asyncjobs into web frameworks, and imports none of them."""

from asyncjobs.integrations.asgi import Lifespan, lifespan

__all__ = ["Lifespan", "lifespan"]
