"""A shop that runs its work with Celery: what people who move bring along."""

from .celery import app as celery_app

__all__ = ("celery_app",)
