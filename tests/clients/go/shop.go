package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// declined is what payment fails with.
type declined struct{ number int }

func (d declined) Error() string { return fmt.Sprintf("card %d declined", d.number) }

func role(ctx context.Context, tracer trace.Tracer, arguments []string) error {
	switch {
	case len(arguments) == 1 && arguments[0] == "payment":
		return payment(tracer)
	case len(arguments) == 2 && arguments[0] == "checkout":
		return checkout(tracer, arguments[1])
	case len(arguments) == 3 && arguments[0] == "frontend":
		return frontend(ctx, tracer, arguments[1], arguments[2])
	}
	return fmt.Errorf("no such role: %v", arguments)
}

func payment(tracer trace.Tracer) error {
	return serve(func(ctx context.Context, number int) bool {
		_, span := tracer.Start(ctx, "POST /charge", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		time.Sleep(time.Duration(2+number%5) * time.Millisecond)
		if number%10 != 3 {
			return true
		}
		span.RecordError(declined{number})
		span.SetStatus(codes.Error, "declined")
		return false
	})
}

func checkout(tracer trace.Tracer, port string) error {
	return serve(func(ctx context.Context, number int) bool {
		ctx, span := tracer.Start(ctx, "POST /checkout", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()

		_, reserve := tracer.Start(ctx, "reserve stock")
		reserve.SetAttributes(attribute.String("app.item", fmt.Sprintf("item-%d", number)))
		time.Sleep(time.Millisecond)
		reserve.End()

		link := trace.Link{
			SpanContext: reserve.SpanContext(),
			Attributes:  []attribute.KeyValue{attribute.String("app.why", "reserved before")},
		}
		chargeCtx, charge := tracer.Start(ctx, "charge", trace.WithSpanKind(trace.SpanKindClient), trace.WithLinks(link))
		ok := call(chargeCtx, port, number)
		if !ok {
			charge.SetStatus(codes.Error, "")
		}
		charge.End()
		span.AddEvent("charged", trace.WithAttributes(attribute.Bool("app.ok", ok), attribute.Int("app.number", number)))
		return true
	})
}

func frontend(ctx context.Context, tracer trace.Tracer, port, count string) error {
	requests, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	for number := range requests {
		buy(ctx, tracer, port, number)
	}
	return nil
}

func buy(ctx context.Context, tracer trace.Tracer, port string, number int) {
	ctx, span := tracer.Start(ctx, "GET /buy", trace.WithSpanKind(trace.SpanKindServer))
	defer span.End()
	if number == 0 {
		span.SetAttributes(everyType()...)
	}
	ctx, client := tracer.Start(ctx, "call checkout", trace.WithSpanKind(trace.SpanKindClient))
	defer client.End()
	call(ctx, port, number)
}

func everyType() []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("t.string", "text"),
		attribute.String("t.empty", ""),
		attribute.String("t.unicode", "Grüße, 世界 \U0001f600 \x00 end"),
		attribute.String("t.large", strings.Repeat("x", 65_536)),
		attribute.Int("t.int", -42),
		attribute.Int64("t.int.min", math.MinInt64),
		attribute.Int64("t.int.max", math.MaxInt64),
		attribute.Float64("t.double", 0.1),
		attribute.Bool("t.true", true),
		attribute.Bool("t.false", false),
		attribute.StringSlice("t.strings", []string{"a", "", "ß"}),
		attribute.IntSlice("t.ints", []int{1, -2, 3}),
		attribute.Float64Slice("t.doubles", []float64{0.5, -1.5}),
		attribute.BoolSlice("t.bools", []bool{true, false}),
	}
}
