"""The template of jobs: makes the job to store from arguments, and the handle of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from asyncjobs.errors import EncodeError, UniqueConflict, UsageError
from asyncjobs.jobs.binding import Binding
from asyncjobs.jobs.context import parent_job
from asyncjobs.jobs.enqueue_call import EnqueueMiddleware
from asyncjobs.jobs.handle import Disposition, JobHandle, Reader
from asyncjobs.model.clock import new_id, now_ms
from asyncjobs.model.envelope import Envelope, encode_call, with_more_headers, without_trace
from asyncjobs.model.gates import gate_header
from asyncjobs.model.headers import (
    call_headers,
    new_headers,
    own_headers,
    unique_header,
)
from asyncjobs.model.job import NewJob
from asyncjobs.model.labels import variables_header
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Gate, Terms, Unique
from asyncjobs.options.app import AppSettings
from asyncjobs.options.carried import CarriedVariable, captured
from asyncjobs.options.durations import When
from asyncjobs.options.given import Given
from asyncjobs.options.table import JobOptions
from asyncjobs.policy.gating import Gating
from asyncjobs.policy.unique import UniqueRule
from asyncjobs.store.answers import Placed

__all__ = ["CallTemplate", "JobTemplate", "TermsTemplate", "new_template"]

# Makes a NamedTuple in half the time that a call of its class takes.
_new: Final = tuple.__new__


class Asks(NamedTuple):
    """What an enqueue asks for besides storing the job: capabilities, and middleware to pass."""

    needs: Mapping[str, str]
    through: tuple[EnqueueMiddleware, ...] = ()


class JobTemplate:
    """Makes the jobs of one job function, or of one `options()` of it. Never changes.

    All options are resolved once, with the app's settings, so an enqueue looks nothing up.
    `stored` are the options that travel in the envelope. `own` are the headers that all these jobs
    have. `needs` are the capabilities that a store must have for these jobs, by option name.
    """

    __slots__ = (
        "_after_ms",
        "_at_ms",
        "_binding",
        "_expires",
        "_given_id",
        "_headers",
        "_own",
        "_priority",
        "_queue",
        "_result_ttl_ms",
        "_stored",
        "asks",
        "name",
        "options",
    )

    def __init__(
        self,
        name: str,
        binding: Binding,
        options: JobOptions,
        stored: dict[str, Any] | None,
        own: dict[str, Any] | None,
        needs: Mapping[str, str],
    ) -> None:
        self.name = name
        self.asks: Asks | None = None
        """What an enqueue has to do besides storing the job. Most have nothing."""
        if needs:
            self.asks = Asks(needs)
        self.options = options
        self._binding = binding
        self._stored = stored
        self._own = own
        self._headers = new_headers(own, None)
        # Copied because they are read for each job: `self._queue` costs half of
        # `self.options.queue`.
        self._queue = options.queue
        self._priority = options.priority
        self._given_id = options.id
        self._after_ms = options.due.after_ms
        self._at_ms = options.due.at_ms
        self._expires = options.expires
        self._result_ttl_ms = options.result_ttl_ms

    def pass_through(self, middleware: tuple[EnqueueMiddleware, ...]) -> None:
        """Let the calls pass this middleware. Before the first one only."""
        if middleware:
            self.asks = Asks(self.needs, middleware)

    @property
    def needs(self) -> Mapping[str, str]:
        """The capabilities that a store must have for these jobs, by option name."""
        if self.asks is None:
            return {}
        return self.asks.needs

    @property
    def through(self) -> tuple[EnqueueMiddleware, ...]:
        """The middleware that its calls pass, the outermost first."""
        if self.asks is None:
            return ()
        return self.asks.through

    def new_job(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], trace: dict[str, Any] | None = None
    ) -> NewJob:
        """The job to store. `trace` is what telemetry/carrier.py sends along.

        Does no I/O. Raises ArgumentsError and EncodeError.
        """
        binding = self._binding
        binding.check(args, kwargs)
        # Most calls have plain values alone. All others are converted, and searched for what JSON
        # would change.
        if not (
            binding.are_plain(tuple(map(type, args)))
            and (not kwargs or binding.are_plain({*map(type, kwargs.values())}))
        ):
            args, kwargs = binding.stored(args, kwargs)
        now = now_ms()
        due_ms = self._at_ms
        if self._after_ms:
            due_ms = now + self._after_ms
        expires = self._expires
        ends_ms = None if expires is None else expires.from_ms(now)
        headers = self._headers
        if trace is not None:
            headers = new_headers(self._own, trace)
        try:
            envelope = encode_call(
                self.name, args, kwargs, now, due_ms, ends_ms, self._stored, headers
            )
        except EncodeError:
            # The encoder does not say which argument it was. `explain` finds it and raises.
            binding.explain(args, kwargs)
            raise
        given_id = self._given_id
        # In the order of NewJob's fields.
        fields = (
            self._queue,
            given_id or new_id(now),
            self._priority,
            envelope,
            self._after_ms,
            self._at_ms,
            given_id is None,
            None,
        )
        return _new(NewJob, fields)

    def new_call(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        fills: Sequence[tuple[int | str, str]],
    ) -> bytes:
        """The call of a schedule: an envelope of an enqueue at the time 0. The arguments are as
        they are stored; `fills` are the placeholders. Raises ArgumentsError and EncodeError."""
        ends_ms = None
        if self._expires is not None:
            ends_ms = self._expires.after_ms
        key, gate = self.call_key(args, kwargs), self.call_gate(args, kwargs)
        headers = call_headers(self._own, fills, key, gate)
        return encode_call(self.name, args, kwargs, 0, None, ends_ms, self._stored, headers)

    def call_key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Unique, int] | None:
        """The unique key of a call that no job makes, and how long its job waits first, in ms. None
        for most. The arguments are as they are stored. Raises ArgumentsError."""
        return None

    def call_gate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Gate | None:
        """The limits of a call that no job makes. None for most. The arguments are as they are
        stored. Raises like `Gating.gate`."""
        return None

    def without_trace(self, job: NewJob) -> NewJob:
        """The same job without its trace."""
        return job._replace(envelope=without_trace(job.envelope))

    def queue_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The queue of a job with these arguments."""
        return self._queue

    def handle(
        self, reader: Reader, queue: str, id: str, disposition: Disposition | None
    ) -> JobHandle[Any]:
        """The handle of the job with this id in this queue. Asks no store."""
        ref = _new(JobRef, (queue, id))
        return JobHandle(
            reader, (ref,), disposition=disposition, ttl_ms=self._result_ttl_ms, name=self.name
        )

    def handle_by_id(self, reader: Reader, id: str) -> JobHandle[Any]:
        """The handle of the job with this id, in a queue of the job function. Raises UsageError if
        the queue comes from the arguments, and may have any name."""
        refs = tuple(JobRef(queue, id) for queue in self.options.queues)
        if not refs:
            raise UsageError(
                f"{self.name}: the queue of its jobs comes from their arguments, so an id alone "
                "names no job; write app.handle('queue/id')"
            )
        return JobHandle(reader, refs, ttl_ms=self._result_ttl_ms, name=self.name)

    def conflict(self, job: NewJob, place: Placed) -> UniqueConflict | None:
        """The error for a call of which `place` became; None if that is what it asked for."""
        return None


class CallTemplate(JobTemplate):
    """Makes jobs of which the single call decides more than the arguments: the queue, by
    `options.route`, and the context variables that they carry. Other jobs pay nothing for it."""

    __slots__ = ("_carried",)

    def __init__(
        self,
        name: str,
        binding: Binding,
        options: JobOptions,
        stored: dict[str, Any] | None,
        own: dict[str, Any] | None,
        needs: Mapping[str, str],
        carried: Sequence[CarriedVariable] = (),
    ) -> None:
        super().__init__(name, binding, options, stored, own, needs)
        self._carried = carried

    def new_job(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], trace: dict[str, Any] | None = None
    ) -> NewJob:
        return self._with_headers(self._routed(args, kwargs, trace), trace, {})

    def queue_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        if self.options.route is None:
            return super().queue_of(args, kwargs)
        return self.options.route.queue_of(self.name, args, kwargs)

    def _routed(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], trace: dict[str, Any] | None
    ) -> NewJob:
        # The arguments are checked behind this line, so the route sees none that do not fit.
        job = super().new_job(args, kwargs, trace)
        if self.options.route is None:
            return job
        # rule:33 the queue that the arguments ask for is the one of the job
        return job._replace(queue=self.queue_of(args, kwargs))

    def _with_headers(
        self, job: NewJob, trace: dict[str, Any] | None, more: dict[str, Any]
    ) -> NewJob:
        values = captured(self._carried, self.name)
        if values:
            more = {**more, **variables_header(values)}
        if not more:
            return job
        has_headers = bool(self._own) or trace is not None
        return job._replace(envelope=with_more_headers(job.envelope, more, has_headers=has_headers))


class TermsTemplate(CallTemplate):
    """Makes the jobs of a job function that are unique by `rule`, or pass the limits of `gating`,
    or both. Other jobs pay nothing for it."""

    __slots__ = ("_gating", "_rule")

    def __init__(
        self,
        name: str,
        binding: Binding,
        options: JobOptions,
        stored: dict[str, Any] | None,
        own: dict[str, Any] | None,
        needs: Mapping[str, str],
        carried: Sequence[CarriedVariable],
        rule: UniqueRule | None,
        gating: Gating | None,
    ) -> None:
        if rule is not None and rule.delay_ms:
            options = replace(options, due=When(after_ms=rule.delay_ms))
        super().__init__(name, binding, options, stored, own, needs, carried)
        self._rule = rule
        self._gating = gating

    def new_job(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], trace: dict[str, Any] | None = None
    ) -> NewJob:
        job = self._routed(args, kwargs, trace)
        values = stored = (args, kwargs)
        if self._binding.converts:
            # By what is stored, which is the same for equal values in each process.
            envelope = Envelope.decode(job.envelope)
            stored = tuple(envelope.args), envelope.kwargs
        unique: Unique | None = None
        gate: Gate | None = None
        headers: dict[str, Any] = {}
        # A dead letter has only its envelope. A retry of it has to hold the key again, and to pass
        # the same limits.
        if self._rule is not None:
            unique = self._lock(self._rule, values, stored)
            headers |= unique_header(unique)
        if self._gating is not None:
            gate = self._gating.gate(values, stored)
            headers |= gate_header(gate)
        job = self._with_headers(job, trace, headers)
        return job._replace(terms=Terms(unique, gate))

    def _lock(
        self,
        rule: UniqueRule,
        values: tuple[tuple[Any, ...], dict[str, Any]],
        stored: tuple[tuple[Any, ...], dict[str, Any]],
    ) -> Unique:
        parent = None
        if rule.is_scoped:
            parent = parent_job()
        args, kwargs = values if rule.is_by_function else stored
        return rule.lock(args, kwargs, parent)

    def call_key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Unique, int] | None:
        if self._rule is None:
            return None
        if self._binding.converts and self._rule.is_by_function:
            args, kwargs = self._binding.loaded(args, kwargs)
        return self._rule.lock(args, kwargs, None), self._rule.delay_ms

    def call_gate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Gate | None:
        if self._gating is None:
            return None
        values = stored = (args, kwargs)
        if self._binding.converts and self._gating.takes_values:
            values = self._binding.loaded(args, kwargs)
        return self._gating.gate(values, stored)

    def conflict(self, job: NewJob, place: Placed) -> UniqueConflict | None:
        if self._rule is None or not self._rule.raises:
            return None
        # The same id is the same job, which is what an id is for.
        if place.how != "there" or place.ref.id == job.id:
            return None
        return UniqueConflict(
            f"{self.name}: the job {place.ref} holds the unique key of this call; wait for its "
            "end, or take another on_conflict=",
            holder=str(place.ref),
        )


def new_template(
    name: str,
    binding: Binding,
    given: Given,
    app: AppSettings,
    sensitive: dict[str, Any] | None,
    rule: UniqueRule | None,
    gating: Gating | None = None,
) -> JobTemplate:
    """The template of a job function with these options, in an app with these settings.

    `sensitive`: the rule of what must not be shown, as stored. `rule`: how its jobs are unique.
    `gating`: the limits that they pass.
    """
    options = given.within(app)
    own = own_headers(sensitive, options.meta, options.tags)
    parts = name, binding, options, given.stored, own, given.needs
    if rule is not None or gating is not None:
        return TermsTemplate(*parts, app.carried, rule, gating)
    # Most functions need neither, and their jobs are made with less work.
    if app.carried or options.route is not None:
        return CallTemplate(*parts, app.carried)
    return JobTemplate(*parts)
