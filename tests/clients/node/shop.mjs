// One of three services, instrumented with the unmodified OpenTelemetry SDK.
//
//     shop.mjs payment                        serves; prints its port, ends when standard input ends
//     shop.mjs checkout PAYMENT_PORT          the same, and calls payment
//     shop.mjs frontend CHECKOUT_PORT COUNT   makes COUNT requests, then ends
//
// Everything about the export comes from OTEL_* variables. Each prints one JSON line for every span that it ended, as
// the SDK itself has it, so that what arrives can be compared.

import { createServer, get } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

import { ROOT_CONTEXT, SpanKind, SpanStatusCode, context, propagation, trace } from "@opentelemetry/api";
import { NodeSDK } from "@opentelemetry/sdk-node";

const sdk = new NodeSDK();
sdk.start();
const tracer = trace.getTracer("longpole.test", "1.2.3");

function say(fields) {
  process.stdout.write(`${JSON.stringify(fields)}\n`);
}

const nanos = ([seconds, rest]) => String(BigInt(seconds) * 1_000_000_000n + BigInt(rest));

/** Ends a span and prints it. */
function end(span) {
  span.end();
  const { traceId, spanId } = span.spanContext();
  say({
    service: process.env.OTEL_SERVICE_NAME,
    name: span.name,
    kind: SpanKind[span.kind].toLowerCase(),
    trace_id: traceId,
    span_id: spanId,
    parent_id: span.parentSpanContext?.spanId ?? "",
    start: nanos(span.startTime),
    end: nanos(span.endTime),
    error: span.status.code === SpanStatusCode.ERROR,
  });
}

/** Runs `work` in a span that is the current one meanwhile. */
function within(name, options, work) {
  return tracer.startActiveSpan(name, options, async (span) => {
    try {
      return await work(span);
    } finally {
      end(span);
    }
  });
}

/** Serves until standard input ends, so that no service outlives the test. */
async function serve(handle) {
  const server = createServer(async (request, response) => {
    const parent = propagation.extract(ROOT_CONTEXT, request.headers);
    const ok = await context.with(parent, () => handle(Number(request.url.slice(1))));
    response.writeHead(ok ? 200 : 500).end();
  });
  server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
  await new Promise((resolve) => process.stdin.on("end", resolve).resume());
  server.closeAllConnections();
  server.close();
}

function call(port, number) {
  const headers = {};
  propagation.inject(context.active(), headers);
  return new Promise((resolve) => {
    const options = { headers, agent: false, timeout: 20_000 };
    const request = get(`http://127.0.0.1:${port}/${number}`, options, (response) => {
      response.resume().on("end", () => resolve(response.statusCode === 200));
    });
    request.on("error", () => resolve(false));
    request.on("timeout", () => request.destroy());
  });
}

function payment() {
  return serve((number) =>
    within("POST /charge", { kind: SpanKind.SERVER }, async (span) => {
      await pause(2 + (number % 5));
      if (number % 10 !== 3) return true;
      span.recordException(new RangeError(`card ${number} declined`));
      span.setStatus({ code: SpanStatusCode.ERROR, message: "declined" });
      return false;
    }),
  );
}

function checkout(port) {
  return serve((number) =>
    within("POST /checkout", { kind: SpanKind.SERVER }, async (span) => {
      const reserved = await within("reserve stock", {}, async (reserve) => {
        reserve.setAttribute("app.item", `item-${number}`);
        await pause(1);
        return reserve.spanContext();
      });
      const links = [{ context: reserved, attributes: { "app.why": "reserved before" } }];
      const ok = await within("charge", { kind: SpanKind.CLIENT, links }, async (charge) => {
        const ok = await call(port, number);
        if (!ok) charge.setStatus({ code: SpanStatusCode.ERROR });
        return ok;
      });
      span.addEvent("charged", { "app.ok": ok, "app.number": number });
      return true;
    }),
  );
}

async function frontend(port, count) {
  for (let number = 0; number < count; number += 1) {
    await within("GET /buy", { kind: SpanKind.SERVER }, async (span) => {
      if (number === 0) span.setAttributes(everyType);
      await within("call checkout", { kind: SpanKind.CLIENT }, () => call(port, number));
    });
  }
}

// A number of JavaScript is exact up to 53 bits.
const everyType = {
  "t.string": "text",
  "t.empty": "",
  "t.unicode": "Grüße, 世界 \u{1f600} \u0000 end",
  "t.large": "x".repeat(65_536),
  "t.int": -42,
  "t.int.min": Number.MIN_SAFE_INTEGER,
  "t.int.max": Number.MAX_SAFE_INTEGER,
  "t.double": 0.1,
  "t.true": true,
  "t.false": false,
  "t.strings": ["a", "", "ß"],
  "t.ints": [1, -2, 3],
  "t.doubles": [0.5, -1.5],
  "t.bools": [true, false],
};

const [role, ...rest] = process.argv.slice(2);
await { payment, checkout, frontend }[role](...rest.map(Number));
await sdk.shutdown();
