//! Where a coordinator is: what a person types, checked and turned into the WebSocket's URL.
//!
//! A scheme brings its own default port (80, 443); without one the port is [`DEFAULT_PORT`], the coordinator's own.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hydra_core::ids::{UserName, UserNameError};
use hydra_core::proto::PATH;

/// Where a coordinator listens unless told otherwise.
pub const DEFAULT_PORT: u16 = 5000;

/// A coordinator's address. Displays as the WebSocket's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    tls: bool,
    host: Host,
    port: u16,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Ip(IpAddr),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a coordinator's address: {fault}; write it as 127.0.0.1:5000, [::1]:5000, ws://example.org:5000 or wss://example.org"
)]
pub struct AddressError {
    text: String,
    fault: &'static str,
}

impl Address {
    /// Whether the connection is encrypted (`wss://`, `https://`).
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// Whether it can only be this machine.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Ip(ip) => ip.to_canonical().is_loopback(),
        }
    }

    /// Host name or IP address, an IPv6 one without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Ip(ip) => ip.to_string(),
        }
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "wss://" } else { "ws://" })?;
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            Host::Ip(ip) => write!(f, "{ip}")?,
        }
        if self.port != scheme_port(self.tls) {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

const fn scheme_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text.trim()).map_err(|fault| AddressError { text: text.chars().take(100).collect(), fault })
    }
}

/// Whether a text that should be something else is one word with a scheme of ours, a host with a port, or an IPv4
/// address.
pub fn looks_like_one(text: &str) -> bool {
    let word = text.trim();
    let scheme = ["ws://", "wss://", "http://", "https://"].iter().any(|scheme| word.starts_with(scheme));
    let host = word.rsplit_once(':').is_some_and(|(host, port)| {
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        digits && (host == "localhost" || host.contains('.'))
    });
    (scheme || host || word.parse::<Ipv4Addr>().is_ok()) && !word.contains(char::is_whitespace)
}

/// The name of a user on a command line. For an address in its place the error shows where it belongs: after `before`.
pub fn user_name(text: &str, before: &str) -> Result<UserName, String> {
    if looks_like_one(text) {
        return Err(format!("reads like an address: `{before} {}`", text.trim()));
    }
    text.parse().map_err(|error: UserNameError| error.to_string())
}

fn parse(text: &str) -> Result<Address, &'static str> {
    let (tls, default_port, rest) = match text.split_once("://") {
        None => (false, DEFAULT_PORT, text),
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => (false, 80, rest),
            "wss" | "https" => (true, 443, rest),
            _ => return Err("the scheme must be ws, wss, http or https"),
        },
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = split_port(authority)?;
    let port = match port {
        None => default_port,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
            Ok(0) | Err(_) => return Err("the port must be from 1 to 65535"),
            Ok(port) => port,
        },
        Some(_) => return Err("the port must be a number"),
    };
    Ok(Address { tls, host: parse_host(host)?, port, path: parse_path(path)? })
}

/// Splits `host:port`, the host with its brackets.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    if authority.contains('@') {
        return Err("it must hold no user name or password");
    }
    if let Some(end) = authority.find(']') {
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("after ']' comes nothing or a colon and the port"),
        };
    }
    match authority.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Err("an IPv6 address needs brackets"),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn parse_host(host: &str) -> Result<Host, &'static str> {
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or("the bracket is not closed")?;
        let ip = inner.parse::<Ipv6Addr>().map_err(|_| "between the brackets must be an IPv6 address")?;
        return Ok(Host::Ip(ip.into()));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Host::Ip(ip));
    }
    if host.is_empty() {
        return Err("the host is missing");
    }
    // All digits and dots, but no IPv4 address: a slip, and nothing that a name server could know.
    if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err("the IP address is not complete");
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > 253 || !name.split('.').all(label) {
        return Err("the host's name may hold only letters, digits, dots and dashes");
    }
    Ok(Host::Name(name.to_ascii_lowercase()))
}

fn parse_path(path: &str) -> Result<String, &'static str> {
    if path.contains('#') {
        return Err("it must hold no '#'");
    }
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the path may hold only plain characters without spaces");
    }
    Ok(match path {
        "" | "/" => PATH.to_owned(),
        query if query.starts_with('?') => format!("{PATH}{query}"),
        path => path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> String {
        text.parse::<Address>().map_or_else(|error| format!("error: {error}"), |address| address.to_string())
    }

    #[test]
    fn everything_that_people_type() {
        for (text, expected) in [
            ("127.0.0.1:5000", "ws://127.0.0.1:5000/ws"),
            (" ws://127.0.0.1:5000 ", "ws://127.0.0.1:5000/ws"),
            ("localhost", "ws://localhost:5000/ws"),
            ("lab-3.example.org.:81", "ws://lab-3.example.org:81/ws"),
            ("http://Example.org/", "ws://example.org/ws"),
            ("WSS://example.org", "wss://example.org/ws"),
            ("https://example.org:8443/hydra/ws", "wss://example.org:8443/hydra/ws"),
            ("https://example.org?room=1", "wss://example.org/ws?room=1"),
            ("[::1]", "ws://[::1]:5000/ws"),
            ("ws://[::1]:7", "ws://[::1]:7/ws"),
        ] {
            assert_eq!(url(text), expected, "{text}");
        }
    }

    #[test]
    fn slips_are_told_with_examples() {
        for (text, fault) in [
            ("", "host is missing"),
            ("ws://", "host is missing"),
            (":5000", "host is missing"),
            ("ftp://x", "scheme"),
            ("::1", "brackets"),
            ("[::1", "brackets"),
            ("[::1]5000", "after ']'"),
            ("[example.org]:1", "IPv6"),
            ("host:port", "number"),
            ("host:", "1 to 65535"),
            ("host:0", "1 to 65535"),
            ("host:70000", "1 to 65535"),
            ("127.0.0", "not complete"),
            ("a b", "letters"),
            ("grün.example", "letters"),
            ("x..y", "letters"),
            ("alice:secret@host", "password"),
            ("host/a b", "spaces"),
            ("host/#top", "'#'"),
        ] {
            let told = url(text);
            assert!(told.starts_with("error: ") && told.contains(fault) && told.contains("127.0.0.1:5000"), "{told}");
        }
    }

    #[test]
    fn an_address_where_a_name_belongs_is_noticed() {
        for text in ["192.168.1.20:5000", "192.168.1.20", "localhost:5000", " wss://x ", "lab.example.org:1"] {
            let told = user_name(text, "hydra-worker NAME").unwrap_err();
            assert_eq!(told, format!("reads like an address: `hydra-worker NAME {}`", text.trim()));
        }
        for text in ["alice", "localhost", "1.2.3", "lab.example.org"] {
            assert_eq!(user_name(text, "").unwrap().as_str(), text);
        }
        assert!(user_name("a*b", "").unwrap_err().starts_with("a user name has"));
        assert!(!looks_like_one("Is 3:30 late?") && !looks_like_one("see http://x now"));
    }

    #[test]
    fn knows_this_machine_and_encryption() {
        let parsed = |text: &str| text.parse::<Address>().unwrap();
        for text in ["localhost", "a.localhost", "127.3.2.1:1", "[::1]", "[::ffff:127.0.0.1]:9"] {
            assert!(parsed(text).is_loopback(), "{text}");
        }
        for text in ["example.org", "localhost.example.org", "10.0.0.1", "[::]", "0.0.0.0"] {
            assert!(!parsed(text).is_loopback(), "{text}");
        }
        assert!(parsed("wss://x").tls() && !parsed("ws://x").tls());
        assert_eq!((parsed("[::1]:7").host().as_str(), parsed("[::1]:7").port()), ("::1", 7));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_what_parses_is_stable(text in "\\PC{0,40}|(ws://|https://)?[a-z0-9.:\\[\\]/@?#]{0,30}") {
            if let Ok(address) = text.parse::<Address>() {
                let again: Address = address.to_string().parse().unwrap();
                proptest::prop_assert_eq!(again, address);
            }
        }
    }
}
