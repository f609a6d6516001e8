//! How many connections may be open, in all and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::ConnectionLimits;

/// Counts open connections of all workers. Asked once a connection, never once a request.
#[derive(Debug, Default)]
pub(super) struct Admission {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Admission {
    /// Counts a connection in.
    ///
    /// # Errors
    ///
    /// The limit that it is over.
    pub(super) fn enter(&self, ip: IpAddr, limits: &ConnectionLimits) -> Result<(), &'static str> {
        let mut open = self.open();
        if open.total >= limits.connections {
            return Err("total");
        }
        let count = open.by_address.entry(network(ip)).or_default();
        if *count >= limits.connections_per_address {
            return Err("address");
        }
        *count += 1;
        open.total += 1;
        Ok(())
    }

    /// Counts it out.
    pub(super) fn leave(&self, ip: IpAddr) {
        let mut open = self.open();
        open.total = open.total.saturating_sub(1);
        let network = network(ip);
        if let Some(count) = open.by_address.get_mut(&network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.by_address.remove(&network);
            }
        }
    }

    /// The counts are right after every statement, so a panic elsewhere does not spoil them.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who an address belongs to: a host in IPv4, a /64 in IPv6, which one customer has whole.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(total: usize, per_address: usize) -> ConnectionLimits {
        ConnectionLimits {
            connections: total,
            connections_per_address: per_address,
            ..ConnectionLimits::DEFAULT
        }
    }

    #[test]
    fn limits_are_inclusive_and_leaving_makes_room() {
        let (admission, limits) = (Admission::default(), limits(2, 1));
        let [a, b, c] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| ip.parse().unwrap());
        assert_eq!(admission.enter(a, &limits), Ok(()));
        assert_eq!(admission.enter(a, &limits), Err("address"));
        assert_eq!(admission.enter(b, &limits), Ok(()));
        assert_eq!(admission.enter(c, &limits), Err("total"));
        admission.leave(a);
        assert_eq!(admission.enter(c, &limits), Ok(()));
        admission.leave(b);
        admission.leave(c);
        assert!(admission.open().by_address.is_empty());
        assert_eq!(admission.open().total, 0);
    }

    #[test]
    fn one_network_counts_as_one_address() {
        let (admission, limits) = (Admission::default(), limits(10, 1));
        assert_eq!(
            admission.enter("2001:db8::1".parse().unwrap(), &limits),
            Ok(())
        );
        let neighbour = "2001:db8::ffff:0:0:2".parse().unwrap();
        assert_eq!(admission.enter(neighbour, &limits), Err("address"));
        assert_eq!(
            admission.enter("2001:db8:0:1::1".parse().unwrap(), &limits),
            Ok(())
        );
        assert_eq!(
            admission.enter("10.0.0.1".parse().unwrap(), &limits),
            Ok(())
        );
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(admission.enter(mapped, &limits), Err("address"));
    }
}
