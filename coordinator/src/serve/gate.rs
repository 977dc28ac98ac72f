//! Who may connect: so many at one time in all, and so many from one host.
//!
//! This machine itself counts as no host: a proxy, a demo and a whole simulated classroom come from there. A network
//! with one address for all (a school's) is one host, so the limit is the operator's to choose.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hydra_core::limits::TURNED_AWAY;

/// How many may be connected at one time.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// In all.
    pub all: usize,
    /// From one host.
    pub host: usize,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    All,
    Host,
}

impl Full {
    /// A word for counting.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Host => "host",
        }
    }

    /// For who is turned away.
    pub const fn text(self) -> &'static str {
        match self {
            Self::All => "the coordinator has no room for another connection: try again later",
            Self::Host => {
                "too many connections from this address: close some, or ask the operator to raise \
                 limits.connections_per_host"
            }
        }
    }
}

/// Counts connections. Copies count together.
#[derive(Debug, Clone)]
pub struct Gate {
    room: Room,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    hosts: BTreeMap<IpAddr, usize>,
    turned_away: usize,
}

impl Gate {
    pub fn new(room: Room) -> Self {
        Self { room, inside: Arc::default() }
    }

    /// Counts a connection in, or counts it as one to be told that there is no room; nothing if there are too many of
    /// those as well.
    pub fn enter(&self, from: SocketAddr) -> Result<Pass, Full> {
        let host = host(from.ip());
        let mut inside = lock(&self.inside);
        let here = host.and_then(|host| inside.hosts.get(&host)).copied().unwrap_or(0);
        let full = if inside.all >= self.room.all {
            Some(Full::All)
        } else if here >= self.room.host {
            Some(Full::Host)
        } else {
            None
        };
        match full {
            None => {
                inside.all += 1;
                if let Some(host) = host {
                    inside.hosts.insert(host, here + 1);
                }
            }
            Some(full) if inside.turned_away >= TURNED_AWAY => return Err(full),
            Some(_) => inside.turned_away += 1,
        }
        Ok(Pass { inside: self.inside.clone(), host, full })
    }
}

fn lock(inside: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection, counted for as long as this lives.
#[derive(Debug)]
pub struct Pass {
    inside: Arc<Mutex<Inside>>,
    host: Option<IpAddr>,
    full: Option<Full>,
}

impl Pass {
    /// What it counts for; nothing for this machine.
    pub fn host(&self) -> Option<IpAddr> {
        self.host
    }

    /// Why it is to be turned away, if it is.
    pub fn full(&self) -> Option<Full> {
        self.full
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = lock(&self.inside);
        if self.full.is_some() {
            inside.turned_away -= 1;
            return;
        }
        inside.all -= 1;
        if let Some(host) = self.host
            && let Some(count) = inside.hosts.get_mut(&host)
        {
            *count -= 1;
            if *count == 0 {
                inside.hosts.remove(&host);
            }
        }
    }
}

/// What counts as one host: an IPv4 address, or the 64 bits of an IPv6 network, of which one machine may have all
/// addresses. Nothing for this machine.
fn host(ip: IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    if ip.is_loopback() {
        return None;
    }
    Some(match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 1)
    }

    fn open(gate: &Gate) -> usize {
        lock(&gate.inside).all
    }

    fn full(gate: &Gate, ip: &str) -> Option<Full> {
        gate.enter(from(ip)).unwrap().full()
    }

    #[test]
    fn a_host_has_its_share_and_this_machine_any() {
        let gate = Gate::new(Room { all: 10, host: 2 });
        let passes: Vec<_> = (0..2).map(|_| gate.enter(from("192.0.2.1")).unwrap()).collect();
        assert_eq!(full(&gate, "192.0.2.1"), Some(Full::Host));
        // The same address in another spelling.
        assert_eq!(full(&gate, "::ffff:192.0.2.1"), Some(Full::Host));
        assert_eq!(full(&gate, "192.0.2.2"), None);
        let here: Vec<_> = (0..8).map(|_| gate.enter(from("127.0.0.1")).unwrap()).collect();
        assert!(here.iter().all(|pass| pass.full().is_none()));
        assert_eq!((open(&gate), full(&gate, "::1")), (10, Some(Full::All)));
        drop(passes);
        assert_eq!((open(&gate), full(&gate, "192.0.2.1")), (8, None));
        drop(here);
        assert_eq!((open(&gate), lock(&gate.inside).hosts.len()), (0, 0));
    }

    #[test]
    fn an_ipv6_network_is_one_host() {
        let gate = Gate::new(Room { all: 10, host: 1 });
        let _pass = gate.enter(from("2001:db8:0:1::1")).unwrap();
        assert_eq!(full(&gate, "2001:db8:0:1:ffff::2"), Some(Full::Host));
        assert_eq!(full(&gate, "2001:db8:0:2::1"), None);
    }

    #[test]
    fn even_turning_away_has_an_end() {
        let gate = Gate::new(Room { all: 0, host: 1 });
        let told: Vec<_> = (0..TURNED_AWAY).map(|_| gate.enter(from("127.0.0.1")).unwrap()).collect();
        assert_eq!(gate.enter(from("127.0.0.1")).unwrap_err(), Full::All);
        drop(told);
        assert_eq!(full(&gate, "127.0.0.1"), Some(Full::All));
    }
}
