"""One of three services, instrumented with the unmodified OpenTelemetry SDK.

    shop.py payment               serves; prints its port, ends when standard input ends
    shop.py checkout PAYMENT_PORT the same, and calls payment
    shop.py frontend CHECKOUT_PORT COUNT   makes COUNT requests, then ends

Everything about the export comes from OTEL_* variables. Each prints one JSON line for every span that it ended, as
the SDK itself has it, so that what arrives can be compared.
"""

import json
import os
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

EXPORTERS = {"grpc": GrpcExporter, "http/protobuf": HttpExporter}
LARGE = "x" * 65_536
UNICODE = "Grüße, 世界 \U0001f600 \u0000 end"
print_lock = threading.Lock()


def say(**fields):
    with print_lock:
        print(json.dumps(fields), flush=True)


class Account(SpanProcessor):
    """Prints every span that ends."""

    def on_end(self, span):
        context = span.get_span_context()
        say(
            service=os.environ["OTEL_SERVICE_NAME"],
            name=span.name,
            kind=span.kind.name.lower(),
            trace_id=f"{context.trace_id:032x}",
            span_id=f"{context.span_id:016x}",
            parent_id=f"{span.parent.span_id:016x}" if span.parent else "",
            start=span.start_time,
            end=span.end_time,
            error=span.status.status_code == StatusCode.ERROR,
        )


def serve(handle):
    """Serves until standard input ends, so that no service outlives the test."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            context = propagate.extract(self.headers)
            ok = handle(context, int(self.path.strip("/")))
            self.send_response(200 if ok else 500)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(port=server.server_port)
    sys.stdin.read()
    server.shutdown()
    server.server_close()


def call(port, number):
    headers = {}
    propagate.inject(headers)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{number}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False


def payment(tracer):
    def handle(context, number):
        with tracer.start_as_current_span("POST /charge", context=context, kind=SpanKind.SERVER) as span:
            time.sleep(0.002 + number % 5 / 1000)
            if number % 10 != 3:
                return True
            try:
                raise ValueError(f"card {number} declined")
            except ValueError as error:
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, "declined"))
            return False

    serve(handle)


def checkout(tracer, port):
    def handle(context, number):
        earlier = []
        with tracer.start_as_current_span("POST /checkout", context=context, kind=SpanKind.SERVER) as span:
            with tracer.start_as_current_span("reserve stock") as reserve:
                reserve.set_attribute("app.item", f"item-{number}")
                earlier.append(reserve.get_span_context())
                time.sleep(0.001)
            link = Link(earlier[0], {"app.why": "reserved before"})
            with tracer.start_as_current_span("charge", kind=SpanKind.CLIENT, links=[link]) as charge:
                ok = call(port, number)
                if not ok:
                    charge.set_status(Status(StatusCode.ERROR))
            span.add_event("charged", {"app.ok": ok, "app.number": number})
            return True

    serve(handle)


def frontend(tracer, port, count):
    for number in range(count):
        with tracer.start_as_current_span("GET /buy", kind=SpanKind.SERVER) as span:
            if number == 0:
                set_every_type(span)
            with tracer.start_as_current_span("call checkout", kind=SpanKind.CLIENT):
                call(port, number)


def set_every_type(span):
    span.set_attributes(
        {
            "t.string": "text",
            "t.empty": "",
            "t.unicode": UNICODE,
            "t.large": LARGE,
            "t.int": -42,
            "t.int.min": -(2**63),
            "t.int.max": 2**63 - 1,
            "t.double": 0.1,
            "t.true": True,
            "t.false": False,
            "t.strings": ["a", "", "ß"],
            "t.ints": [1, -2, 3],
            "t.doubles": [0.5, -1.5],
            "t.bools": [True, False],
        }
    )


def main():
    provider = TracerProvider()
    exporter = EXPORTERS[os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"]]()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    provider.add_span_processor(Account())
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("longpole.test", "1.2.3")
    role, arguments = sys.argv[1], [int(a) for a in sys.argv[2:]]
    {"payment": payment, "checkout": checkout, "frontend": frontend}[role](tracer, *arguments)
    provider.shutdown()


if __name__ == "__main__":
    main()
