// One of three services, instrumented with the unmodified OpenTelemetry SDK.
//
//	shop payment                        serves; prints its port, ends when standard input ends
//	shop checkout PAYMENT_PORT          the same, and calls payment
//	shop frontend CHECKOUT_PORT COUNT   makes COUNT requests, then ends
//
// Everything about the export comes from OTEL_* variables. Each prints one JSON line for every span that it ended, as
// the SDK itself has it, so that what arrives can be compared.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

var printLock sync.Mutex

func say(fields map[string]any) {
	line, err := json.Marshal(fields)
	if err != nil {
		log.Fatal(err)
	}
	printLock.Lock()
	defer printLock.Unlock()
	fmt.Println(string(line))
}

// account prints every span that ends.
type account struct{}

func (account) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (account) Shutdown(context.Context) error                  { return nil }
func (account) ForceFlush(context.Context) error                { return nil }

func (account) OnEnd(span sdktrace.ReadOnlySpan) {
	parent := ""
	if span.Parent().SpanID().IsValid() {
		parent = span.Parent().SpanID().String()
	}
	say(map[string]any{
		"service":   os.Getenv("OTEL_SERVICE_NAME"),
		"name":      span.Name(),
		"kind":      span.SpanKind().String(),
		"trace_id":  span.SpanContext().TraceID().String(),
		"span_id":   span.SpanContext().SpanID().String(),
		"parent_id": parent,
		"start":     span.StartTime().UnixNano(),
		"end":       span.EndTime().UnixNano(),
		"error":     span.Status().Code == codes.Error,
	})
}

// newExporter makes the exporter that OTEL_EXPORTER_OTLP_PROTOCOL names; it reads the other variables itself.
func newExporter(ctx context.Context) (*otlptrace.Exporter, error) {
	switch protocol := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "grpc":
		return otlptracegrpc.New(ctx)
	case "http/protobuf":
		return otlptracehttp.New(ctx)
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL=%q", protocol)
	}
}

// serve serves until standard input ends, so that no service outlives the test.
func serve(handle func(context.Context, int) bool) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	say(map[string]any{"port": listener.Addr().(*net.TCPAddr).Port})
	go func() { _ = http.Serve(listener, handler(handle)) }()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func handler(handle func(context.Context, int) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		number, err := strconv.Atoi(strings.Trim(r.URL.Path, "/"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		if !handle(ctx, number) {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}
}

func call(ctx context.Context, port string, number int) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%s/%d", port, number), nil)
	if err != nil {
		return false
	}
	otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(request.Header))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

func run(ctx context.Context, arguments []string) error {
	exporter, err := newExporter(ctx)
	if err != nil {
		return err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithSpanProcessor(account{}))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	tracer := otel.Tracer("longpole.test", trace.WithInstrumentationVersion("1.2.3"))
	if err := role(ctx, tracer, arguments); err != nil {
		return err
	}
	return provider.Shutdown(ctx)
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}
