//! As much HTTP as the shop needs: a path that is a number, headers, and a status.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use opentelemetry::{Context, global};
use serde_json::json;

use crate::say;

/// Serves until standard input ends, so that no service outlives the test. `handle` gets the caller's context and the
/// number in the path, and says whether it went well.
pub(crate) fn serve(handle: impl Fn(&Context, u64) -> bool + Send + 'static) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    say(&json!({"port": listener.local_addr()?.port()}));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A caller that goes away has no answer.
            let _ = answer(stream, &handle);
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(mut stream: TcpStream, handle: &impl Fn(&Context, u64) -> bool) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().context("no request")??;
    let path = request.split(' ').nth(1).context("no path")?;
    let number = path.trim_start_matches('/').parse()?;
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let caller = global::get_text_map_propagator(|propagator| propagator.extract(&headers));
    let status = if handle(&caller, number) { "200 OK" } else { "500 Internal Server Error" };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(())
}

/// Asks a service of this context; whether it answered with 200.
pub(crate) fn call(context: &Context, port: u16, number: u64) -> bool {
    let mut headers = HashMap::new();
    global::get_text_map_propagator(|propagator| propagator.inject_context(context, &mut headers));
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20))).build();
    let mut request = ureq::Agent::new_with_config(config).get(format!("http://127.0.0.1:{port}/{number}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.call().is_ok()
}
