//! Which web pages may send spans.

use std::str::FromStr;

use http::{HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

/// How long browsers may remember the answer to a preflight.
const MAX_AGE: std::time::Duration = std::time::Duration::from_secs(7_200);

/// The origins of web pages whose scripts may send over OTLP/HTTP.
///
/// As text: `*` for all, `none`, or origins such as `https://shop.example` with commas between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Those of every page.
    #[default]
    Any,
    /// Those of these origins; of no page if it is empty.
    Only(Vec<String>),
}

impl FromStr for AllowedOrigins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "*" => Ok(Self::Any),
            "none" => Ok(Self::Only(Vec::new())),
            list => {
                list.split(',').map(|origin| checked(origin.trim())).collect::<Result<_, _>>().map(Self::Only)
            }
        }
    }
}

impl std::fmt::Display for AllowedOrigins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Only(origins) if origins.is_empty() => f.write_str("none"),
            Self::Only(origins) => f.write_str(&origins.join(",")),
        }
    }
}

fn checked(origin: &str) -> Result<String, String> {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let good = |host: &str| {
        !host.is_empty() && !host.contains(['/', '*', ' ']) && HeaderValue::from_str(host).is_ok()
    };
    match host {
        Some(host) if good(host) => Ok(origin.to_owned()),
        _ => Err(format!(
            "must be *, none, or origins such as https://shop.example:8443 with commas between, not `{origin}`"
        )),
    }
}

impl AllowedOrigins {
    /// Answers preflights and marks answers; `None` if no page may send.
    ///
    /// Browsers send the SDK's beacons with credentials, and take an answer to these only if it names their origin
    /// and allows credentials. Longpole looks at none, so naming every origin gives nothing away that `*` would not.
    pub(crate) fn layer(&self) -> Option<CorsLayer> {
        let origin = match self {
            Self::Any => AllowOrigin::mirror_request(),
            Self::Only(origins) if origins.is_empty() => return None,
            Self::Only(origins) => {
                AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
            }
        };
        let layer = CorsLayer::new()
            .allow_origin(origin)
            .allow_credentials(true)
            .allow_methods(AllowMethods::list([Method::POST]))
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([header::RETRY_AFTER])
            .max_age(MAX_AGE);
        // A page on the internet may reach a collector on the local network only if somebody named it.
        Some(layer.allow_private_network(matches!(self, Self::Only(_))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_checked_and_written_as_they_are_read() {
        for text in ["*", "none", "https://shop.example,http://localhost:3000"] {
            assert_eq!(text.parse::<AllowedOrigins>().unwrap().to_string(), text);
        }
        for text in
            ["", "shop.example", "https://", "https://shop.example/path", "https://*.example", "ftp://x"]
        {
            let error = text.parse::<AllowedOrigins>().unwrap_err();
            assert!(error.contains("https://shop.example"), "{error}");
        }
    }
}
