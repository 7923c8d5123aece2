"""The options that were given for a job: by its function, by one enqueue, by an envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asyncjobs.errors import ConfigError
from asyncjobs.model.clock import now_ms
from asyncjobs.options.app import AppSettings
from asyncjobs.options.checks import DEFAULT_QUEUE
from asyncjobs.options.option import Scope, read
from asyncjobs.options.routes import QueueBy
from asyncjobs.options.table import ENQUEUE, OPTIONS, JobOptions
from asyncjobs.policy.retry import Retries

__all__ = ["Given"]

_TRAVELLING: Final = tuple(option for option in OPTIONS if option.travels is not None)
_NEEDING: Final = tuple(option for option in OPTIONS if option.needs)
_MERGED: Final = {option.field: option.merge for option in ENQUEUE.values() if option.merge}
_FROM_APP: Final = {option.field: option.from_app for option in OPTIONS if option.from_app}


class Given:
    """Options that were given, checked. Never changes.

    `fields` holds them by the fields of JobOptions. `stored` are those of an enqueue that travel
    in the envelope; None if there are none. The app's settings hold for all others.
    """

    __slots__ = ("fields", "stored")

    def __init__(self, fields: dict[str, Any], stored: dict[str, Any] | None = None) -> None:
        self.fields = fields
        self.stored = stored

    @property
    def needs(self) -> dict[str, str]:
        """The capabilities that a store must have for these options, by the options' names."""
        # None takes an option away, and an empty list asks for nothing: nothing has to be kept.
        return {option.name: option.needs for option in _NEEDING if self.fields.get(option.field)}

    def by_enqueue(self, options: Mapping[str, Any], name: str) -> Given:
        """These options, overridden by those of `f.options(...)`. `name` is that of f, for errors.

        Raises ConfigError for a value that cannot work and for a job that would expire before it
        is due, and TypeError for an unknown option.
        """
        said = read(options, ENQUEUE, Scope.ENQUEUE, name)
        for field, merge in _MERGED.items():
            if field in said and field in self.fields:
                said[field] = merge(self.fields[field], said[field])
        # `options()` may be called on the result of `options()`: the later one wins.
        stored = dict(self.stored or ())
        for option in _TRAVELLING:
            if option.travels is not None and option.field in said:
                stored[option.travels.key] = said[option.field]
        given = Given({**self.fields, **said}, stored or None)
        given._check_expiry(name)
        return given

    def by_envelope(self, stored: dict[str, Any]) -> Given:
        """These options, overridden by those that travelled in an envelope.

        Raises ConfigError for values that no enqueue writes.
        """
        # Only options of the table are read. A later release may have written others.
        fields = dict(self.fields)
        for option in _TRAVELLING:
            travel = option.travels
            if travel is not None and travel.key in stored:
                fields[option.field] = travel.read(stored[travel.key], field=f"stored {travel.key}")
        return Given(fields, stored)

    def within(self, app: AppSettings) -> JobOptions:
        """All options of such a job, with the app's settings for those not given."""
        fields = {field: getattr(app, its) for field, its in _FROM_APP.items()}
        fields |= self.fields
        # The function's policies do not replace the app's. They come first, and the app's hold
        # for errors that they do not name.
        retries: Retries = self.fields.get("retry", Retries()).within(app.retry)
        attempts = fields.get("attempts")
        if attempts is not None:
            retries = retries.limited(attempts)
        fields["retry"] = retries
        # The prefix keeps the queues of two deployments of one program apart.
        queue = fields.get("queue", DEFAULT_QUEUE)
        if isinstance(queue, QueueBy):
            fields["route"] = queue.within(app.queue_prefix)
            queue = DEFAULT_QUEUE
        fields["queue"] = app.queue_prefix + queue
        return JobOptions(**fields)

    def _check_expiry(self, name: str) -> None:
        due = self.fields.get("due")
        expires = self.fields.get("expires")
        if due is None or expires is None:
            return
        now = now_ms()
        due_ms = due.from_ms(now)
        # A time in the past means "at once", so a job that is due then need not expire later.
        if expires.from_ms(now) <= due_ms and due_ms > now:
            raise ConfigError(
                f"{name}: expires is not after the time that delay or at asks for, so the "
                "job would never run; give a later expires in the same options(), or expires=None"
            )
