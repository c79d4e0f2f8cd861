import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import io.opentelemetry.api.GlobalOpenTelemetry;
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Scope;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.concurrent.Executors;
import java.util.logging.Logger;

/**
 * A small HTTP application. It knows nothing of exporters: the OpenTelemetry Java agent makes the spans of its server
 * and its client, it adds a few of its own through the API, and OTEL_* variables say where all of it goes.
 *
 * <p>{@code GET /checkout?number=N} asks {@code GET /charge?number=N} of itself and answers with the ids of its own
 * span. One line of JSON on standard output says the port; it runs until standard input ends.
 */
public final class Shop {
    private static final Logger LOG = Logger.getLogger("shop");
    private static final Tracer TRACER = GlobalOpenTelemetry.getTracer("longpole.test", "1.2.3");

    private final HttpClient client = HttpClient.newHttpClient();
    private final HttpServer server;

    private Shop() throws IOException {
        server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/checkout", this::checkout);
        server.createContext("/charge", this::charge);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
    }

    private void checkout(HttpExchange exchange) throws IOException {
        int number = number(exchange);
        SpanContext own = Span.current().getSpanContext();
        SpanContext reserved = reserve(number);
        int status = ask(number, reserved);
        LOG.info("order " + number + " was charged with " + status);
        answer(exchange, 200, "{\"trace_id\":\"" + own.getTraceId() + "\",\"span_id\":\"" + own.getSpanId() + "\"}");
    }

    private static SpanContext reserve(int number) {
        Span span = TRACER.spanBuilder("reserve stock").startSpan();
        try (Scope ignored = span.makeCurrent()) {
            span.setAllAttributes(everyType());
            pause(1);
        } finally {
            span.end();
        }
        return span.getSpanContext();
    }

    /** The agent makes the client's span, as a child of this one. */
    private int ask(int number, SpanContext reserved) throws IOException {
        Attributes why = Attributes.of(AttributeKey.stringKey("app.why"), "reserved before");
        Span span = TRACER.spanBuilder("charge").addLink(reserved, why).startSpan();
        try (Scope ignored = span.makeCurrent()) {
            URI uri = URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/charge?number=" + number);
            HttpRequest request = HttpRequest.newBuilder(uri).build();
            int status = client.send(request, HttpResponse.BodyHandlers.discarding()).statusCode();
            span.addEvent("charged", Attributes.of(
                    AttributeKey.booleanKey("app.ok"), status == 200, AttributeKey.longKey("app.number"), (long) number));
            return status;
        } catch (InterruptedException e) {
            throw new IOException(e);
        } finally {
            span.end();
        }
    }

    private void charge(HttpExchange exchange) throws IOException {
        int number = number(exchange);
        pause(2 + number % 5);
        if (number % 10 != 3) {
            answer(exchange, 200, "{}");
            return;
        }
        Span span = Span.current();
        span.recordException(new IllegalStateException("card " + number + " declined"));
        span.setStatus(StatusCode.ERROR, "declined");
        answer(exchange, 500, "{}");
    }

    private static Attributes everyType() {
        return Attributes.builder()
                .put("t.string", "text")
                .put("t.empty", "")
                .put("t.unicode", "Grüße, 世界 \uD83D\uDE00 \0 end")
                .put("t.large", "x".repeat(65_536))
                .put("t.int", -42)
                .put("t.int.min", Long.MIN_VALUE)
                .put("t.int.max", Long.MAX_VALUE)
                .put("t.double", 0.1)
                .put("t.true", true)
                .put("t.false", false)
                .put("t.strings", "a", "", "ß")
                .put("t.ints", 1L, -2L, 3L)
                .put("t.doubles", 0.5, -1.5)
                .put("t.bools", true, false)
                .build();
    }

    private static int number(HttpExchange exchange) {
        return Integer.parseInt(exchange.getRequestURI().getQuery().substring("number=".length()));
    }

    private static void answer(HttpExchange exchange, int status, String body) throws IOException {
        byte[] bytes = body.getBytes();
        exchange.sendResponseHeaders(status, bytes.length);
        exchange.getResponseBody().write(bytes);
        exchange.close();
    }

    private static void pause(long millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    public static void main(String[] arguments) throws IOException {
        Shop shop = new Shop();
        System.out.println("{\"port\":" + shop.server.getAddress().getPort() + "}");
        while (System.in.read() >= 0) {
            // Until standard input ends.
        }
        // What the agent still holds goes out as the process ends.
        System.exit(0);
    }
}
