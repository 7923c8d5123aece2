"""What fits asyncjobs into other frameworks; imports none of them."""

from asyncjobs.integrations.asgi import Lifespan, lifespan

__all__ = ["Lifespan", "lifespan"]
