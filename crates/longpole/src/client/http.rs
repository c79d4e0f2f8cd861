//! One GET against the API: the answer as JSON, or an error that says what to do.

use std::io::Write;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Exit, Params};

/// The largest answer that is read: a trace of a few hundred thousand spans fits.
const MAX_ANSWER_BYTES: u64 = 512 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The base URL is not one.
    #[error("`{0}` is not a server URL: expected something like http://127.0.0.1:16686 (plain HTTP)")]
    Url(String),
    /// Nothing listens there.
    #[error(
        "no Longpole server at {url} ({reason})\n\n  \
         start one:           longpole serve\n  \
         or with sample data: longpole demo\n  \
         or name another:     --server http://HOST:16686 (or LONGPOLE_SERVER)"
    )]
    Unreachable {
        /// The server that was asked.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The server answered with an error of its own.
    #[error("{message}{}", .parameter.as_ref().map(|p| format!(" (parameter `{p}`)")).unwrap_or_default())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error's name, such as `invalid_parameter`.
        code: String,
        /// The server's words.
        message: String,
        /// The parameter that was wrong, if one was.
        parameter: Option<String>,
    },
    /// Something answered, but not as a Longpole server does.
    #[error("{url} answered in a way this version does not understand: {reason}")]
    Shape {
        /// The server that was asked.
        url: String,
        /// What was odd.
        reason: String,
    },
}

impl ClientError {
    /// The exit code for this error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Url(_) | Self::Refused { status: 400, .. } => Exit::Usage,
            Self::Refused { status: 404, .. } => Exit::NotFound,
            Self::Refused { .. } | Self::Unreachable { .. } | Self::Shape { .. } => Exit::Failure,
        }
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    parameter: Option<String>,
}

/// The base URL of a server, without a slash at its end; `host:port` alone means plain HTTP.
///
/// # Errors
/// If it is empty or asks for another protocol than HTTP.
pub(crate) fn base_url(url: &str) -> Result<String, ClientError> {
    let trimmed = url.trim().trim_end_matches('/');
    match trimmed.split_once("://") {
        Some(("http", rest)) if !rest.is_empty() => Ok(trimmed.to_owned()),
        None if !trimmed.is_empty() => Ok(format!("http://{trimmed}")),
        _ => Err(ClientError::Url(url.to_owned())),
    }
}

/// A server's API.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    base: String,
    agent: ureq::Agent,
}

impl Server {
    /// A server by its base URL; `host:port` alone means plain HTTP.
    ///
    /// # Errors
    /// If the URL is empty or asks for another protocol than HTTP.
    pub(crate) fn new(url: &str) -> Result<Self, ClientError> {
        let base = base_url(url)?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(TIMEOUT))
            .build();
        Ok(Self { base, agent: ureq::Agent::new_with_config(config) })
    }

    /// The answer to a question, as JSON.
    pub(crate) fn get(&self, path: &str, params: &Params) -> Result<Value, ClientError> {
        serde_json::from_slice(&self.fetch(path, params)?).map_err(|e| self.shape(e.to_string()))
    }

    /// Writes the answer to a question as the server gives it, indented.
    pub(crate) fn copy(&self, path: &str, mut params: Params, out: &mut dyn Write) -> anyhow::Result<()> {
        params.0.push(("pretty", "true".to_owned()));
        let body = self.fetch(path, &params)?;
        out.write_all(body.trim_ascii_end())?;
        Ok(writeln!(out)?)
    }

    /// Whether the server has everything and takes spans.
    ///
    /// # Errors
    /// If nothing answers, or it is not ready; then with the server's reason.
    pub(crate) fn ready(&self) -> Result<(), ClientError> {
        self.fetch_at("/readyz", &Params::default()).map(|_| ())
    }

    fn fetch(&self, path: &str, params: &Params) -> Result<Vec<u8>, ClientError> {
        self.fetch_at(&format!("/api/v1{path}"), params)
    }

    fn fetch_at(&self, path: &str, params: &Params) -> Result<Vec<u8>, ClientError> {
        let pairs = params.0.iter().map(|(name, value)| (*name, value.as_str()));
        let request = self.agent.get(format!("{}{path}", self.base)).query_pairs(pairs);
        let mut response =
            request.header("Accept", "application/json").call().map_err(|e| self.transport(&e))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|e| self.transport(&e))?;
        if (200..300).contains(&status) { Ok(body) } else { Err(self.refused(status, &body)) }
    }

    /// An answer read into the shape that it should have.
    pub(crate) fn read<T: DeserializeOwned>(&self, body: Value) -> Result<T, ClientError> {
        serde_json::from_value(body).map_err(|e| self.shape(e.to_string()))
    }

    fn shape(&self, reason: String) -> ClientError {
        ClientError::Shape { url: self.base.clone(), reason }
    }

    fn transport(&self, error: &ureq::Error) -> ClientError {
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => ClientError::Url(self.base.clone()),
            ureq::Error::BodyExceedsLimit(limit) => {
                self.shape(format!("the answer is larger than {} MiB", limit >> 20))
            }
            other => ClientError::Unreachable { url: self.base.clone(), reason: other.to_string() },
        }
    }

    fn refused(&self, status: u16, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { error }) => ClientError::Refused {
                status,
                code: error.code,
                message: error.message,
                parameter: error.parameter,
            },
            Err(_) => self.shape(format!("HTTP status {status} without Longpole's error body")),
        }
    }
}

/// Text made safe as one part of a URL's path.
pub(crate) fn path_part(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02X}"));
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_forgiving_but_not_lying() {
        assert_eq!(Server::new("http://h:1/").unwrap().base, "http://h:1");
        assert_eq!(Server::new("h:1").unwrap().base, "http://h:1");
        assert!(matches!(Server::new("https://h:1"), Err(ClientError::Url(_))));
        assert!(matches!(Server::new(" "), Err(ClientError::Url(_))));
    }

    #[test]
    fn whether_it_is_ready_is_asked_at_every_form_of_an_address_and_the_reason_is_told() {
        use std::io::Read;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            for (status, body) in [
                ("200 OK", "ready\n"),
                ("200 OK", "ready\n"),
                ("503 Service Unavailable", r#"{"error":{"code":"not_ready","message":"the disk is full"}}"#),
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0; 4_096];
                let length = stream.read(&mut head).unwrap();
                assert!(head[..length].starts_with(b"GET /readyz HTTP/1.1"));
                let head =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}", body.len());
                stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
            }
        });
        assert!(Server::new(&format!("http://{address}/")).unwrap().ready().is_ok());
        assert!(Server::new(&address.to_string()).unwrap().ready().is_ok());
        let error = Server::new(&format!("http://{address}")).unwrap().ready().unwrap_err();
        assert_eq!(error.to_string(), "the disk is full");
        answering.join().unwrap();
    }

    #[test]
    fn nobody_there_says_how_to_start_one() {
        let error =
            Server::new("http://127.0.0.1:1").unwrap().get("/services", &Params::default()).unwrap_err();
        assert!(error.to_string().contains("longpole serve"), "{error}");
        assert_eq!(error.exit(), Exit::Failure);
    }

    #[test]
    fn refusals_carry_the_server_s_words() {
        let server = Server::new("http://h:1").unwrap();
        let body = br#"{"error":{"code":"invalid_parameter","message":"bad","parameter":"limit"}}"#;
        let error = server.refused(400, body);
        assert_eq!(error.to_string(), "bad (parameter `limit`)");
        assert_eq!(error.exit(), Exit::Usage);
        assert_eq!(path_part("a/b ü"), "a%2Fb%20%C3%BC");
    }
}
