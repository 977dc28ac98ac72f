//! Reaching a coordinator, and telling precisely why it cannot be reached.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::{Error as WsError, http};
use tokio_tungstenite::{MaybeTlsStream, client_async_tls_with_config};

use super::{Connection, LinkStats};
use crate::address::Address;
use crate::exit::{Exit, Failure};
use crate::link::{Client, Socket};

/// For name, network, encryption and upgrade together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection. Each names the address and, in [`ConnectError::hint`], the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("no coordinator listens at {0}")]
    Refused(String),
    /// The host's name leads nowhere.
    #[error("the name {host} cannot be found: {detail}")]
    Dns {
        /// The host.
        host: String,
        /// What the system says.
        detail: String,
    },
    /// The network leads nowhere.
    #[error("{url} cannot be reached: {detail}")]
    Unreachable {
        /// The address.
        url: String,
        /// What the system says.
        detail: String,
    },
    /// Nobody answered in time.
    #[error("{0} does not answer within {secs} s", secs = CONNECT_TIMEOUT.as_secs())]
    Timeout(String),
    /// No encrypted connection.
    #[error("no secure connection to {url}: {detail}")]
    Tls {
        /// The address.
        url: String,
        /// What the TLS library says.
        detail: String,
    },
    /// Somebody listens, but it is no coordinator.
    #[error("{url} is not a Hydra coordinator: {detail}")]
    NotHydra {
        /// The address.
        url: String,
        /// How it answered.
        detail: String,
    },
}

impl ConnectError {
    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Refused(_) => {
                "start a coordinator with `hydra-coordinator`, or name the one that you mean: HOST:PORT after a \
                 worker's name, --coordinator HOST:PORT for a query"
            }
            Self::Dns { .. } => "check the spelling and the network, or use the IP address",
            Self::Unreachable { .. } => "check the network and the address",
            Self::Timeout(_) => {
                "a coordinator that prepares its run does not answer yet: see its terminal; else check the address and whether a \
                 firewall stands between"
            }
            Self::Tls { .. } => "check the certificate, or use ws:// if the coordinator has none",
            Self::NotHydra { .. } => "check host, port and path; a coordinator takes connections at /ws",
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::new(Exit::Connect, error.to_string()).hint(error.hint())
    }
}

/// Connects within [`CONNECT_TIMEOUT`]; the traffic is counted in `stats`.
pub async fn connect(address: &Address, stats: Arc<LinkStats>) -> Result<Connection, ConnectError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, open(address)).await {
        Ok(socket) => Ok(Connection::over(socket?, Client::default(), stats)),
        Err(_) => Err(ConnectError::Timeout(address.to_string())),
    }
}

async fn open(address: &Address) -> Result<Socket<MaybeTlsStream<TcpStream>>, ConnectError> {
    let tcp = reach(address).await?;
    // Control messages are small and wait for nobody.
    let _ = tcp.set_nodelay(true);
    if address.tls() {
        // Fails only if another was installed before, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let config = Socket::<MaybeTlsStream<TcpStream>>::config();
    match client_async_tls_with_config(address.to_string(), tcp, Some(config), None).await {
        Ok((socket, _)) => Ok(Socket::new(socket)),
        Err(error) => Err(explain(address, &error)),
    }
}

async fn reach(address: &Address) -> Result<TcpStream, ConnectError> {
    let host = address.host();
    let dns = |detail: String| ConnectError::Dns { host: host.clone(), detail };
    let found: Vec<_> = tokio::net::lookup_host((host.as_str(), address.port()))
        .await
        .map_err(|error| dns(error.to_string()))?
        .collect();
    // A name may have addresses of two kinds of which the network knows one: none may use up all the time.
    let share = CONNECT_TIMEOUT / found.len().clamp(1, 4) as u32;
    let mut last = dns("it has no address".to_owned());
    for target in found {
        last = match tokio::time::timeout(share, TcpStream::connect(target)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ConnectError::Refused(address.to_string())
            }
            Ok(Err(error)) => ConnectError::Unreachable { url: address.to_string(), detail: error.to_string() },
            Err(_) => ConnectError::Timeout(address.to_string()),
        };
    }
    Err(last)
}

/// What a failed upgrade means: the network is there, so it is about encryption or about who listens.
fn explain(address: &Address, error: &WsError) -> ConnectError {
    let url = address.to_string();
    match error {
        WsError::Http(response) => ConnectError::NotHydra { url, detail: describe(response) },
        WsError::Tls(error) => ConnectError::Tls { url, detail: secure(error.to_string()) },
        // Before the upgrade's answer, an encrypted connection fails in its encryption.
        WsError::Io(error) if address.tls() => ConnectError::Tls { url, detail: secure(error.to_string()) },
        WsError::Io(error) => ConnectError::NotHydra { url, detail: format!("it hung up ({error})") },
        _ => ConnectError::NotHydra { url, detail: "it does not speak WebSocket".to_owned() },
    }
}

/// What the TLS library says, in plainer words where what came was no TLS at all.
fn secure(detail: String) -> String {
    if detail.contains("InvalidContentType") { "it answers without encryption".to_owned() } else { detail }
}

fn describe(response: &Response) -> String {
    let status = response.status();
    match response.headers().get(http::header::LOCATION).and_then(|place| place.to_str().ok()) {
        Some(place) => format!("it answers HTTP {status} and points to {place}"),
        None => format!("it answers HTTP {status}"),
    }
}
