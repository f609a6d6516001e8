//! A range of addresses.

use std::net::IpAddr;

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `fd00::/8` or a single address. `None` if it is none, or if bits behind
    /// the prefix are set: `10.0.0.1/8` may mean one address or sixteen million.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (text.parse().ok()?, None),
            Some((address, bits)) => {
                let plain = bits.bytes().all(|byte| byte.is_ascii_digit());
                let bits = bits.parse::<u8>().ok().filter(|_| plain)?;
                (address.parse().ok()?, Some(bits))
            }
        };
        let all = width(address);
        let bits = bits.unwrap_or(all);
        let network = Self { address, bits };
        (bits <= all && number(address) & !network.mask() == 0).then_some(network)
    }

    /// Whether every address is in it.
    pub fn is_everything(&self) -> bool {
        self.bits == 0
    }

    /// Whether the address is in it. One that is mapped into IPv6 is what it stands for.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && number(address) & self.mask() == number(self.address)
    }

    /// The bits that must be equal, at the top of those of the address.
    fn mask(&self) -> u128 {
        let all = u128::MAX >> (128 - u32::from(width(self.address)));
        let free = u32::from(width(self.address).saturating_sub(self.bits));
        all & u128::MAX.checked_shl(free).unwrap_or(0)
    }
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_like_it() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.0/25", "192.0.2.127", "192.0.2.128"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.7/32", "::ffff:192.0.2.7", "::ffff:192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("::/0", "fd00::1", "10.0.0.1"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network}");
            assert_eq!(parsed.is_everything(), network.ends_with("/0"));
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "a",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.1/8",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "[::1]",
            "10.0.0.0:80",
            "fd00::1/8",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
