//! Which addresses may be connected to.
//!
//! Must not resolve names. The lists are those of RFC 6890 and its registries; whatever is not known to be public is
//! refused.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not connected to. Its text names the address: it is for the log, not for the public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {kind}")]
pub struct RefusedAddress {
    /// The address.
    pub address: IpAddr,
    /// What it is, in words.
    pub kind: &'static str,
}

/// What an address is good for.
enum Class {
    /// It may lie anywhere on the internet.
    Public,
    /// Somebody's own network: for hosts and addresses that the policy lists.
    Own(&'static str),
    /// This link only, which in a cloud includes the service that hands out credentials: for listed addresses, not for
    /// listed hosts.
    Link(&'static str),
    /// Nothing to fetch from, whoever lists it.
    Never(&'static str),
}

/// Hosts and addresses that may be reached although they are private. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrivateHosts {
    hosts: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl PrivateHosts {
    /// From texts that are each an address (`10.0.0.5`, `fd00::1`) or a host name.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Self {
        let mut listed = Self::default();
        for entry in entries {
            match entry.parse::<IpAddr>() {
                Ok(address) => listed.addresses.insert(address.to_canonical()),
                Err(_) => listed.hosts.insert(entry.to_ascii_lowercase()),
            };
        }
        listed
    }

    /// Whether a host, as a URL has it, is listed by its name or as an address.
    #[must_use]
    pub fn lists(&self, host: &str) -> bool {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match literal.parse::<IpAddr>() {
            Ok(address) => self.addresses.contains(&address.to_canonical()),
            Err(_) => self.hosts.contains(host),
        }
    }

    /// Whether `address` may be connected to as an address of `host`.
    ///
    /// # Errors
    /// [`RefusedAddress`] says what it is.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), RefusedAddress> {
        let address = address.to_canonical();
        let is_listed = |by_host: bool| self.addresses.contains(&address) || (by_host && self.hosts.contains(host));
        match class(address) {
            Class::Public => Ok(()),
            Class::Own(_) if is_listed(true) => Ok(()),
            Class::Link(_) if is_listed(false) => Ok(()),
            Class::Own(kind) | Class::Link(kind) | Class::Never(kind) => Err(RefusedAddress { address, kind }),
        }
    }
}

fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

fn class_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        [0, ..] => Class::Never("of this network"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Own("private"),
        [100, 64..=127, ..] => Class::Own("shared by a carrier's customers"),
        [127, ..] => Class::Own("loopback"),
        [169, 254, ..] => Class::Link("link-local"),
        [192, 0, 0, _] => Class::Never("for protocol assignments"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Never("for documentation"),
        [192, 88, 99, _] => Class::Never("a relay of 6to4"),
        [198, 18..=19, ..] => Class::Never("for benchmarks"),
        [224..=239, ..] => Class::Never("multicast"),
        [240..=255, ..] => Class::Never("reserved or broadcast"),
        _ => Class::Public,
    }
}

fn class_v6(address: Ipv6Addr) -> Class {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = || {
        let ([hi, lo], [hi2, lo2]) = (g.to_be_bytes(), h.to_be_bytes());
        Ipv4Addr::new(hi, lo, hi2, lo2)
    };
    match (a, b) {
        (0, 0) if address == Ipv6Addr::LOCALHOST => Class::Own("loopback"),
        // ::a.b.c.d included, whatever is embedded. ::ffff:a.b.c.d is an IPv4 address by now.
        (0, _) => Class::Never("unspecified or IPv4-compatible"),
        // What an IPv6-only network makes of a public IPv4 address (RFC 6052); of a private one it must not make any.
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => match class_v4(embedded()) {
            Class::Public => Class::Public,
            Class::Own(_) | Class::Link(_) | Class::Never(_) => {
                Class::Never("NAT64 for an IPv4 address that is not public")
            }
        },
        (0x64, 0xff9b) => Class::Never("NAT64 of a local network"),
        (0xfc00..=0xfdff, _) => Class::Own("unique local"),
        (0xfe80..=0xfebf, _) => Class::Link("link-local"),
        (0x2001, 0) => Class::Never("Teredo, which embeds an IPv4 address"),
        (0x2001, 1..=0x1ff) => Class::Never("for protocol assignments"),
        (0x2001, 0xdb8) | (0x3fff, 0..=0xfff) => Class::Never("for documentation"),
        (0x2002, _) => Class::Never("6to4, which embeds an IPv4 address"),
        // ISATAP (RFC 5214): the interface is named by an IPv4 address.
        (0x2000..=0x3fff, _) if matches!((e, f), (0 | 0x200, 0x5efe)) => {
            Class::Never("ISATAP, which embeds an IPv4 address")
        }
        (0x2000..=0x3fff, _) => Class::Public,
        (0xff00..=0xffff, _) => Class::Never("multicast"),
        _ => Class::Never("not a public unicast address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(listed: &PrivateHosts, host: &str, address: &str) -> bool {
        listed.check(host, address.parse().expect(address)).is_err()
    }

    const REFUSED: [&str; 54] = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:2::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "2606:4700::5efe:127.0.0.1",
        "2606:4700::200:5efe:10.0.0.1",
        "3fff::1",
        "fc00::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ];

    const PUBLIC: [&str; 14] = [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001:81b::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ];

    #[test]
    fn only_public_addresses_are_connected_to() {
        let none = PrivateHosts::default();
        let wrong: Vec<_> = REFUSED.iter().filter(|address| !refused(&none, "a.example", address)).collect();
        assert!(wrong.is_empty(), "let through: {wrong:?}");
        let wrong: Vec<_> = PUBLIC.iter().filter(|address| refused(&none, "a.example", address)).collect();
        assert!(wrong.is_empty(), "refused: {wrong:?}");
    }

    #[test]
    fn a_listed_host_may_be_in_an_own_network_and_nowhere_else() {
        let listed = PrivateHosts::new(["Origin.Internal"]);
        for (host, address, expected) in [
            ("origin.internal", "10.0.0.5", false),
            ("origin.internal", "127.0.0.1", false),
            ("origin.internal", "::ffff:192.168.1.1", false),
            ("origin.internal", "fd00::1", false),
            ("origin.internal", "::1", false),
            ("origin.internal", "8.8.8.8", false),
            ("other.internal", "10.0.0.5", true),
            ("origin.internal", "169.254.169.254", true),
            ("origin.internal", "fe80::1", true),
            ("origin.internal", "0.0.0.0", true),
            ("origin.internal", "64:ff9b::10.0.0.1", true),
        ] {
            assert_eq!(refused(&listed, host, address), expected, "{host} {address}");
        }
    }

    #[test]
    fn a_listed_address_is_that_one_in_every_form_whoever_has_it() {
        let listed = PrivateHosts::new(["10.0.0.5", "::ffff:10.0.0.6", "169.254.1.1", "224.0.0.1"]);
        for (address, expected) in [
            ("10.0.0.5", false),
            ("::ffff:10.0.0.5", false),
            ("10.0.0.6", false),
            ("169.254.1.1", false),
            ("10.0.0.7", true),
            ("169.254.169.254", true),
            ("224.0.0.1", true),
        ] {
            assert_eq!(refused(&listed, "any.example", address), expected, "{address}");
        }
    }

    #[test]
    fn what_is_listed_is_known_as_a_url_has_it() {
        let listed = PrivateHosts::new(["Hooks.Internal", "10.0.0.5", "fd00::1"]);
        for (url, expected) in [
            ("http://HOOKS.internal:8080/x", true),
            ("http://10.5/", true),
            ("http://[fd00:0::1]/", true),
            ("http://other.internal/", false),
            ("http://10.0.0.6/", false),
        ] {
            let url: url::Url = url.parse().expect("a URL");
            assert_eq!(listed.lists(url.host_str().expect("a host")), expected, "{url}");
        }
    }

    #[test]
    fn the_log_names_the_address() {
        let refused = PrivateHosts::default().check("a", IpAddr::from([10, 0, 0, 1])).expect_err("private");
        assert_eq!(refused.to_string(), "10.0.0.1 is private");
    }
}
