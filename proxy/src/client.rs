//! Whom a request comes from: the peer of the connection, or the client that a trusted proxy names.
//!
//! A proxy adds the address it was called from at the right of a header; what stands further left is its client's own
//! claim. So the header counts only when the peer is trusted, and is read from the right up to the first address that is
//! not. Where an entry is no address, reading ends: the last address that could be trusted is the answer.
//! Only the header that the operator names is read: a proxy passes the other one on as its client has written it.
//! Must not decide what a client may do.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName, header};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// Proxies in a row that are followed. More is nobody's network, and each costs time.
const HOPS_MAX: usize = 32;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header that trusted proxies add the address of their client to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// A list of addresses, as nearly all proxies write it.
    #[default]
    XForwardedFor,
    /// RFC 7239, its `for` parameters.
    Forwarded,
}

/// Who is trusted to name the client, and where.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// Proxies in these networks (CIDR) or at these addresses, which write this header.
    ///
    /// # Errors
    /// The entries that are neither.
    pub fn new(entries: &[String], header: ForwardedHeader) -> Result<Self, Vec<String>> {
        let (networks, wrong): (Vec<_>, Vec<_>) =
            entries.iter().map(|entry| parse_network(entry).ok_or(entry)).partition(Result::is_ok);
        if wrong.is_empty() {
            Ok(Self { networks: networks.into_iter().flatten().collect(), header })
        } else {
            Err(wrong.into_iter().filter_map(Result::err).cloned().collect())
        }
    }

    /// True for a proxy of ours.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The client of a request that came from `peer`. IPv4 addresses in IPv6 notation are plain ones here.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.contain(client) {
            return client;
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let lines = headers.get_all(name);
        let entries = lines.iter().rev().flat_map(|line| Pieces { rest: Some(line.as_bytes()), separator: b',' });
        for entry in entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()).take(HOPS_MAX) {
            let address = match self.header {
                ForwardedHeader::XForwardedFor => parse_node(entry),
                ForwardedHeader::Forwarded => forwarded_for(entry),
            };
            let Some(address) = address else { break };
            client = address;
            if !self.contain(client) {
                break;
            }
        }
        client
    }
}

/// What limits count an address by: an IPv4 address, or the /64 of an IPv6 address, which is one customer.
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// A network, or an address as a network of one; IPv4 ones in IPv6 notation as IPv4.
fn parse_network(text: &str) -> Option<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    match (network, network.addr().to_canonical()) {
        (IpNet::V6(mapped), IpAddr::V4(address)) if mapped.prefix_len() >= 96 => {
            Ipv4Net::new(address, mapped.prefix_len() - 96).ok().map(IpNet::V4)
        }
        _ => Some(network),
    }
}

/// The pieces between separators, from the right; a separator in double quotes is none. Read from the right, what the
/// last proxy wrote is understood whatever its client has put before it.
struct Pieces<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let mut is_quoted = false;
        let at = rest.iter().rposition(|byte| {
            is_quoted ^= *byte == b'"';
            !is_quoted && *byte == self.separator
        });
        self.rest = at.map(|at| &rest[..at]);
        Some(at.map_or(rest, |at| &rest[at + 1..]))
    }
}

/// The node of the one `for` parameter of an element (RFC 7239, section 4).
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let parameters = Pieces { rest: Some(element), separator: b';' };
    let mut nodes = parameters.filter_map(|parameter| {
        let (name, value) = parameter.trim_ascii().split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(value)
    });
    let (node, None) = (nodes.next()?, nodes.next()) else { return None };
    match node.strip_prefix(b"\"") {
        Some(quoted) => parse_node(quoted.strip_suffix(b"\"")?),
        None => parse_node(node),
    }
}

/// An address, perhaps with a port; an IPv6 address with a port is in brackets.
fn parse_node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let is_port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let address: IpAddr = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
            return None;
        }
        address.parse::<Ipv6Addr>().ok()?.into()
    } else {
        match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => {
                address.parse().ok().filter(|address: &IpAddr| address.is_ipv4() && is_port(port))?
            }
            _ => text.parse().ok()?,
        }
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    fn trusted(header: ForwardedHeader) -> TrustedProxies {
        let entries = ["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48", "::ffff:172.16.0.0/108"].map(str::to_owned);
        TrustedProxies::new(&entries, header).expect("all are networks")
    }

    #[track_caller]
    fn check_with(header: ForwardedHeader, peer: &str, lines: &[&[u8]], expected: &str) {
        let name = match header {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, http::HeaderValue::from_bytes(line).expect("a value"));
        }
        let client = trusted(header).client(peer.parse().expect("an address"), &headers);
        let shown = lines.iter().map(|line| line.escape_ascii().to_string()).collect::<Vec<_>>();
        assert_eq!(client.to_string(), expected, "{peer} {shown:?}");
    }

    #[track_caller]
    fn check(peer: &str, line: &str, expected: &str) {
        check_with(ForwardedHeader::XForwardedFor, peer, &[line.as_bytes()], expected);
    }

    #[track_caller]
    fn check_forwarded(line: &str, expected: &str) {
        check_with(ForwardedHeader::Forwarded, "10.0.0.1", &[line.as_bytes()], expected);
    }

    #[test]
    fn the_right_most_address_that_is_not_trusted_is_the_client() {
        check("203.0.113.9", "", "203.0.113.9");
        check("10.0.0.1", "198.51.100.7", "198.51.100.7");
        check("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7");
        check("10.0.0.1", "1.1.1.1, 198.51.100.7,10.9.9.9 , 192.0.2.1", "198.51.100.7");
        check("10.0.0.1", "198.51.100.7,, ,", "198.51.100.7");
        check("2001:db8:1::5", "2001:db8:2::1", "2001:db8:2::1");
        check("2001:db8:1::5", "2001:DB8:2:0::1", "2001:db8:2::1");
        // Everyone is trusted: the farthest.
        check("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3");
        check("10.0.0.1", "", "10.0.0.1");
    }

    #[test]
    fn a_peer_that_is_not_trusted_names_nobody() {
        for line in ["1.1.1.1", "10.0.0.1", "1.1.1.1, 10.0.0.1", "for=1.1.1.1", "\"", ","] {
            check("203.0.113.9", line, "203.0.113.9");
            check("192.0.2.2", line, "192.0.2.2");
            check("2001:db8:2::1", line, "2001:db8:2::1");
        }
    }

    #[test]
    fn ports_and_other_notations_are_understood() {
        check("10.0.0.1", "198.51.100.7:4711", "198.51.100.7");
        check("10.0.0.1", "[2001:db8:2::1]:4711", "2001:db8:2::1");
        check("10.0.0.1", "[2001:db8:2::1]", "2001:db8:2::1");
        check("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7");
        check("10.0.0.1", "[::ffff:198.51.100.7]:80", "198.51.100.7");
        // A listener for both families shows IPv4 peers like this; they are the same proxies.
        check("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7");
        check("172.31.0.1", "198.51.100.7, ::ffff:10.0.0.2", "198.51.100.7");
        check("::ffff:203.0.113.9", "1.1.1.1", "203.0.113.9");
    }

    #[test]
    fn garbage_ends_the_reading() {
        let garbage: [&[u8]; 22] = [
            b"unknown",
            b"_hidden",
            b"198.51.100",
            b"198.51.100.256",
            b"0198.51.100.7",
            b"0x7f.1",
            b"3325256711",
            b"198.51.100.7:",
            b"198.51.100.7:123456",
            b"198.51.100.7:8a",
            b"198.51.100.7 198.51.100.8",
            b"198.51.100.7/32",
            b"[198.51.100.7]:80",
            b"[2001:db8:2::1",
            b"2001:db8:2::1]:80",
            b"[2001:db8:2::1]80",
            b"[]:80",
            b"fe80::1%eth0",
            b"\"198.51.100.7\"",
            b"\"",
            b"\xff\xfe",
            b"http://198.51.100.7",
        ];
        for entry in garbage {
            check_with(ForwardedHeader::XForwardedFor, "10.0.0.1", &[entry], "10.0.0.1");
            let behind = [b"1.1.1.1, ", entry, b", 10.0.0.2"].concat();
            check_with(ForwardedHeader::XForwardedFor, "10.0.0.1", &[&behind], "10.0.0.2");
            // On the left it is the client's own claim, which nobody reads.
            let left = [entry, b", 198.51.100.7"].concat();
            check_with(ForwardedHeader::XForwardedFor, "10.0.0.1", &[&left], "198.51.100.7");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines: [&[u8]; 3] = [b"1.1.1.1", b"198.51.100.7, 10.0.0.3", b"10.0.0.2"];
        check_with(ForwardedHeader::XForwardedFor, "10.0.0.1", &lines, "198.51.100.7");
    }

    proptest! {
        #[test]
        fn whatever_a_client_claims_the_proxys_word_counts(claim in "[\\PC\t]{0,60}|[\",;=\\\\:.\\[\\]a-f0-9 ]{0,60}") {
            for (header, added) in [
                (ForwardedHeader::XForwardedFor, "198.51.100.7"),
                (ForwardedHeader::Forwarded, "for=198.51.100.7"),
                (ForwardedHeader::Forwarded, "for=\"198.51.100.7:4711\";by=\"a,b\""),
            ] {
                let line = format!("{claim}, {added}");
                check_with(header, "10.0.0.1", &[line.as_bytes()], "198.51.100.7");
                check_with(header, "10.0.0.1", &[claim.as_bytes(), added.as_bytes()], "198.51.100.7");
                check_with(header, "203.0.113.9", &[line.as_bytes()], "203.0.113.9");
            }
        }
    }

    #[test]
    fn a_row_of_proxies_has_an_end() {
        let long = "10.0.0.9,".repeat(5000);
        check("10.0.0.1", &format!("198.51.100.7,{long}"), "10.0.0.9");
    }

    #[test]
    fn rfc_7239() {
        check_forwarded("for=198.51.100.7", "198.51.100.7");
        check_forwarded("For=\"198.51.100.7:4711\"", "198.51.100.7");
        check_forwarded("FOR=\"[2001:db8:2::1]:4711\";proto=http;by=10.0.0.1", "2001:db8:2::1");
        check_forwarded("proto=https; for=198.51.100.7 ;host=\"a;b,c\"", "198.51.100.7");
        check_forwarded("for=1.1.1.1, for=198.51.100.7;host=\"a,for=2.2.2.2\", for=10.0.0.3", "198.51.100.7");
        for nobody in
            ["proto=https", "for=unknown", "for=_a", "for=", "for", "for=1.1.1.1;for=2.2.2.2", "for=\"1.1.1.1"]
        {
            check_forwarded(nobody, "10.0.0.1");
        }
        // An unclosed quote, or one that seems to hold what the proxy wrote.
        check_forwarded("for=\", for=198.51.100.7", "198.51.100.7");
        check_forwarded("for=1.1.1.1;x=\", for=\"[2001:db8:2::1]:80\"", "2001:db8:2::1");
        check_forwarded("for=\"1.1.1.1\\\", for=\"198.51.100.7\"", "198.51.100.7");
    }

    #[test]
    fn only_the_header_that_was_named_counts() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", http::HeaderValue::from_static("198.51.100.7"));
        headers.insert("forwarded", http::HeaderValue::from_static("for=198.51.100.8"));
        let client = |header| trusted(header).client(IpAddr::from([10, 0, 0, 1]), &headers).to_string();
        assert_eq!(client(ForwardedHeader::XForwardedFor), "198.51.100.7");
        assert_eq!(client(ForwardedHeader::Forwarded), "198.51.100.8");
    }

    #[test]
    fn what_is_no_network_is_named() {
        let entries = ["10.0.0.0/8", "10.0.0.0/33", "proxy.example", "", "10.0.0.1:80", "::1"].map(str::to_owned);
        let wrong = TrustedProxies::new(&entries, ForwardedHeader::XForwardedFor).expect_err("four are wrong");
        assert_eq!(wrong, ["10.0.0.0/33", "proxy.example", "", "10.0.0.1:80"]);
    }

    #[test]
    fn an_ipv6_customer_is_one() {
        let counted = |text: &str| counted_as(text.parse().expect("an address")).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:2::"), "2001:db8:1:2::");
        assert_eq!(counted("::ffff:198.51.100.7"), "198.51.100.7");
        assert_eq!(counted("198.51.100.7"), "198.51.100.7");
    }
}
