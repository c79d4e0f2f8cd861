//! The services of the shop: who they are, what they run on and which SDK speaks for them.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// A service of the shop. The numbers index [`PROFILES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Service {
    Frontend,
    Checkout,
    Cart,
    Catalog,
    Recommendation,
    Payment,
    Currency,
    Shipping,
    Email,
    Fraud,
    Inventory,
}

/// What a service's resource says.
struct Profile {
    service: Service,
    name: &'static str,
    version: &'static str,
    language: &'static str,
    sdk: &'static str,
    scope: &'static str,
}

const fn profile(
    service: Service,
    name: &'static str,
    version: &'static str,
    (language, sdk, scope): (&'static str, &'static str, &'static str),
) -> Profile {
    Profile { service, name, version, language, sdk, scope }
}

const GO: (&str, &str, &str) =
    ("go", "1.38.0", "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc");
const JAVA: (&str, &str, &str) = ("java", "1.54.0", "io.opentelemetry.grpc-1.6");
const PYTHON: (&str, &str, &str) = ("python", "1.37.0", "opentelemetry.instrumentation.grpc");
const NODE: (&str, &str, &str) = ("nodejs", "2.1.0", "@opentelemetry/instrumentation-grpc");
const RUST: (&str, &str, &str) = ("rust", "0.31.0", "tonic");

const PROFILES: [Profile; 11] = [
    profile(Service::Frontend, "frontend", "3.4.1", NODE),
    profile(Service::Checkout, "checkout", "2.11.0", GO),
    profile(Service::Cart, "cart", "1.9.3", JAVA),
    profile(Service::Catalog, "catalog", "4.0.2", GO),
    profile(Service::Recommendation, "recommendation", "0.14.0", PYTHON),
    profile(Service::Payment, "payment", "2.2.0", JAVA),
    profile(Service::Currency, "currency", "1.3.0", RUST),
    profile(Service::Shipping, "shipping", "1.7.5", RUST),
    profile(Service::Email, "email", "1.1.8", PYTHON),
    profile(Service::Fraud, "fraud", "0.9.1", PYTHON),
    profile(Service::Inventory, "inventory", "5.2.0", JAVA),
];

impl Service {
    /// All services, in the order of their numbers.
    pub(super) const ALL: [Self; 11] = {
        let mut all = [Self::Frontend; 11];
        let mut i = 0;
        while i < all.len() {
            all[i] = PROFILES[i].service;
            i += 1;
        }
        all
    };

    const fn profile(self) -> &'static Profile {
        &PROFILES[self as usize]
    }

    /// `service.name`.
    pub(super) const fn name(self) -> &'static str {
        self.profile().name
    }

    /// The instrumentation scope of its spans.
    pub(super) fn scope(self) -> InstrumentationScope {
        let profile = self.profile();
        InstrumentationScope {
            name: profile.scope.to_owned(),
            version: profile.sdk.to_owned(),
            ..InstrumentationScope::default()
        }
    }

    /// The resource that its SDK reports.
    pub(super) fn resource(self) -> Resource {
        let profile = self.profile();
        let pod = format!("{}-7c9f{:02x}d4b8-{}", profile.name, self as usize * 23 + 17, "x2k9q");
        let attributes = vec![
            text("service.name", profile.name),
            text("service.namespace", "shop"),
            text("service.version", profile.version),
            text("service.instance.id", &pod),
            text("deployment.environment.name", "demo"),
            text("host.name", &format!("node-{}", self as usize % 3 + 1)),
            text("host.arch", "amd64"),
            text("os.type", "linux"),
            text("k8s.namespace.name", "shop"),
            text("k8s.pod.name", &pod),
            text("telemetry.sdk.name", "opentelemetry"),
            text("telemetry.sdk.language", profile.language),
            text("telemetry.sdk.version", profile.sdk),
        ];
        Resource { attributes, ..Resource::default() }
    }
}

/// An attribute of text.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

/// An attribute that is a whole number.
pub(super) fn int(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

/// An attribute that is a number.
pub(super) fn double(key: &str, value: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_stand_at_their_service_s_number() {
        for (i, service) in Service::ALL.into_iter().enumerate() {
            assert_eq!(service as usize, i);
        }
    }
}
