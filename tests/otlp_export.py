"""Exports spans with OpenTelemetry's SDK: SPANS of them, by the exporter `grpc` or `http`, in traces of ten.

The environment has the rest, such as OTEL_EXPORTER_OTLP_ENDPOINT. Fails if an export does.
"""

import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

if sys.argv[1] == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

results = []


class Noting(OTLPSpanExporter):
    """Remembers what became of each request."""

    def export(self, spans, *args, **kwargs):
        result = super().export(spans, *args, **kwargs)
        results.append(result)
        return result


spans = int(sys.argv[2])
provider = TracerProvider()
# Without the queue's limit, the SDK would drop what it can't send at once.
provider.add_span_processor(BatchSpanProcessor(Noting(), max_queue_size=spans + 512))
tracer = provider.get_tracer("otlp_export", "1.0")
for trace_number in range(spans // 10):
    with tracer.start_as_current_span(f"request {trace_number}", attributes={"number": trace_number}) as root:
        for step in range(9):
            with tracer.start_as_current_span(f"step {step}", kind=trace.SpanKind.CLIENT) as span:
                span.add_event("cache miss", {"key": step})
provider.shutdown()
failed = sum(result is not SpanExportResult.SUCCESS for result in results)
print(f"{len(results)} requests, {failed} failed")
sys.exit(1 if failed or not results else 0)
