"""A small OTLP/HTTP receiver on loopback that keeps spans and draws them as trees."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

MOST_SPANS = 10_000
"""Later ones are dropped."""


@dataclass(frozen=True)
class Received:
    """A span and the service that sent it."""

    span: Span
    service: str

    def attribute(self, name: str) -> str:
        for each in self.span.attributes:
            if each.key == name:
                return str(getattr(each.value, each.value.WhichOneof("value")))
        return ""


class Receiver(ThreadingHTTPServer):
    """Owns the spans that were posted to it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.spans: list[Received] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, body: bytes) -> None:
        for part in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = [
                a.value.string_value for a in part.resource.attributes if a.key == "service.name"
            ]
            spans = [span for scope in part.scope_spans for span in scope.spans]
            room = MOST_SPANS - len(self.spans)
            self.spans += [Received(span, "".join(names)) for span in spans[:room]]


class _Post(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.add(self.rfile.read(int(self.headers["Content-Length"])))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """No line for each request."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens until the end of the block."""
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()


def trees(spans: list[Received]) -> Iterator[str]:
    """The lines of all traces, the earliest first; links are named at the end of a line."""
    found = sorted(spans, key=lambda each: each.span.start_time_unix_nano)
    known = {each.span.span_id: each for each in found}
    for number, root in enumerate(_children(found, None, known), 1):
        yield f"trace {number}"
        yield from _tree(root, found, known, "")


def _tree(
    node: Received, found: list[Received], known: dict[bytes, Received], indent: str
) -> Iterator[str]:
    yield f"{indent}└─ {_line(node, known)}"
    for child in _children(found, node.span.span_id, known):
        yield from _tree(child, found, known, indent + "   ")


def _children(
    found: list[Received], parent: bytes | None, known: dict[bytes, Received]
) -> list[Received]:
    """The spans below `parent`; None: those whose parent is not here."""
    if parent is None:
        return [each for each in found if each.span.parent_span_id not in known]
    return [each for each in found if each.span.parent_span_id == parent]


def _line(node: Received, known: dict[bytes, Received]) -> str:
    kind = Span.SpanKind.Name(node.span.kind).removeprefix("SPAN_KIND_").lower()
    words = [node.span.name, f"[{node.service}, {kind}]"]
    if attempt := node.attribute("asyncjobs.job.attempt"):
        words.append(f"attempt {attempt}: {node.attribute('asyncjobs.job.outcome')}")
    if node.span.status.code == Status.STATUS_CODE_ERROR:
        words.append(f"({node.attribute('error.type') or 'error'})")
    for link in node.span.links:
        why = "".join(a.value.string_value for a in link.attributes if a.key == "asyncjobs.link")
        to = known.get(link.span_id)
        words.append(f"← {why}: {to.span.name if to else '?'}")
    return " ".join(words)
