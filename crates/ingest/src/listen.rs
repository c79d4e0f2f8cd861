//! Where the servers listen: TCP addresses and unix sockets.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// What a unix socket's address begins with.
const UNIX: &str = "unix:";
/// Bytes that a socket takes and has not sent yet, before it asks for a pause.
#[cfg(target_os = "linux")]
const UNSENT_AHEAD: u32 = 128 << 10;

/// Where a server listens; written as it is configured: `127.0.0.1:4317`, `unix:/run/longpole.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// A bound listener. The file of a unix socket is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self { kind: Kind::Tcp(listener) }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Listens on `host:port`, where port 0 picks a free one, or on `unix:/path`.
    ///
    /// # Errors
    /// If that is not possible: the address is wrong or taken, or the path is no socket or has somebody listening.
    pub async fn bind(address: &str) -> Result<Self> {
        let kind = match address.strip_prefix(UNIX) {
            None => Kind::Tcp(TcpListener::bind(address).await?),
            Some(path) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                let (listener, file) = bind_unix(Path::new(path)).await?;
                Kind::Unix(listener, file)
            }
        };
        Ok(Self { kind })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the operating system cannot say.
    pub fn address(&self) -> Result<Address> {
        Ok(match &self.kind {
            Kind::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Kind::Unix(_, file) => Address::Unix(file.path.clone()),
        })
    }

    pub(crate) async fn accept(&self) -> Result<Accepted> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small, and somebody waits for them.
                let _ = stream.set_nodelay(true);
                write_little_ahead(&stream);
                Ok(Accepted::Tcp(stream))
            }
            Kind::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// A socket takes megabytes ahead of what a client reads, and takes more only when a third of that is gone: of a slow client
/// nothing would seem to go on for a minute.
fn write_little_ahead(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_AHEAD);
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

async fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile)> {
    if path.as_os_str().is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "a unix socket needs a path, such as unix:/run/longpole.sock",
        ));
    }
    remove_stale(path).await?;
    let listener = UnixListener::bind(path)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    Ok((listener, file))
}

/// Removes what a process left that did not end in order. A socket that somebody listens on stays, and so does what is
/// no socket.
async fn remove_stale(path: &Path) -> Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(Error::new(ErrorKind::AlreadyExists, "the path exists and is no socket"));
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(Error::new(ErrorKind::AddrInUse, "another process listens on the socket")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// The file of a socket of ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

fn identity(path: &Path) -> Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put another in its place.
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
