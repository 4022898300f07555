//! Signatures: known ones, and everything that must not pass for one.

use transform_url::native::{self, Request};
use transform_url::signing::{KeyName, Message, SIGNATURE_CHARS, check_wire_form};

const SECRET: &str = "an example secret, 32 bytes or more";
const PATH: &str = "/w=400,f=auto/@local/beach.jpg";
const KNOWN: &str = "JSKJblAl7LI_s7IwKeQuE0_y8l26rtXu_KuadfbhW5g";

/// The message of [`KNOWN`].
fn message() -> Message<'static> {
    Message { tenant_id: "demo", path: PATH, expires: Some(1_893_456_000), key: "2026-01" }
}

/// Vectors computed with Python's `hmac` and `base64`.
#[test]
fn known_signatures() {
    #[track_caller]
    fn check(message: Message<'_>, secret: &str, signature: &str) {
        assert_eq!(message.sign(secret.as_bytes()), signature, "{message:?}");
        assert!(message.is_signed_by(secret.as_bytes(), signature), "{message:?}");
    }
    check(message(), SECRET, KNOWN);
    check(Message { expires: None, ..message() }, SECRET, "0MFYH1XILCSfZYBZOlSLQF1_nVAR9SvRvtwF5GJUhds");
    check(Message { tenant_id: "shop", ..message() }, SECRET, "yoMJxgM8BoC_K3phPIw-1UuVuoMnYd8ybpnFGHcOOv0");
    check(
        Message { tenant_id: "demo", path: "/-/@local/b%C3%BCro/my%20beach.jpg", expires: None, key: "k" },
        SECRET,
        "x_P9m8MSdK-uOGosgSWdvcjqdLBO6x_nqdrmE6oZytY",
    );
    check(
        Message { tenant_id: "demo", path: "/w=100/@local/a.jpg", expires: Some(0), key: "K_-9" },
        SECRET,
        "u-eRhmmoxczbWhvqBWp2QU3Ef4Hk1IjPILqegxiiBJ4",
    );
    check(
        Message { tenant_id: "demo", path: "/w=1/@local/a", expires: None, key: "k" },
        &"k".repeat(256),
        "OfjRxH9uyPSQvndI_337RzvoUzKpT4grdq7bl63UvrA",
    );
}

#[test]
fn another_message_has_another_signature() {
    for other in [
        Message { tenant_id: "shop", ..message() },
        Message { tenant_id: "", ..message() },
        Message { path: "/w=401,f=auto/@local/beach.jpg", ..message() },
        Message { path: "/f=auto,w=400/@local/beach.jpg", ..message() },
        // The same picture in other spellings.
        Message { path: "/width=400,f=auto/@local/beach.jpg", ..message() },
        Message { path: "/w=400,f=auto/@local/b%65ach.jpg", ..message() },
        Message { path: "/w=400%2Cf=auto/@local/beach.jpg", ..message() },
        Message { path: "/demo/w=400,f=auto/@local/beach.jpg", ..message() },
        Message { path: "w=400,f=auto/@local/beach.jpg", ..message() },
        Message { expires: None, ..message() },
        Message { expires: Some(1_893_456_001), ..message() },
        Message { key: "2026-02", ..message() },
        Message { key: "", ..message() },
        // A line moved into its neighbour.
        Message { tenant_id: "demo\n/w=400,f=auto/@local/beach.jpg", path: "1893456000", expires: None, ..message() },
    ] {
        assert!(!other.is_signed_by(SECRET.as_bytes(), KNOWN), "{other:?}");
    }
    assert!(!message().is_signed_by(b"another secret, 32 bytes or longer", KNOWN));
    assert!(!message().is_signed_by(b"", KNOWN));
}

#[test]
fn the_case_of_an_escape_is_part_of_the_path() {
    let upper = Message { path: "/w=1/@local/b%C3%BC.jpg", ..message() };
    let lower = Message { path: "/w=1/@local/b%c3%bc.jpg", ..message() };
    assert!(!lower.is_signed_by(SECRET.as_bytes(), &upper.sign(SECRET.as_bytes())));
}

#[test]
fn a_signature_has_one_spelling() {
    let is_signed = |signature: &str| message().is_signed_by(SECRET.as_bytes(), signature);
    assert_eq!(KNOWN.len(), SIGNATURE_CHARS);
    assert!(is_signed(KNOWN));
    let (most, last) = KNOWN.split_at(SIGNATURE_CHARS - 1);
    assert_eq!(last, "g", "100000 in binary: the last two bits are no part of the 256");
    let hex: String = KNOWN.bytes().map(|byte| format!("{byte:02x}")).collect();
    for wrong in [
        // These three decode to the same bytes where trailing bits are ignored.
        format!("{most}h"),
        format!("{most}i"),
        format!("{most}j"),
        String::new(),
        format!("{KNOWN}="),
        format!("{KNOWN}A"),
        format!("{most}="),
        most.to_owned(),
        KNOWN[..22].to_owned(),
        KNOWN.replace('_', "/"),
        KNOWN.replace('-', "+").replace('_', "/"),
        KNOWN.to_lowercase(),
        format!(" {most}"),
        format!("{}ü", &KNOWN[..SIGNATURE_CHARS - 2]),
        "A".repeat(SIGNATURE_CHARS),
        hex,
    ] {
        assert!(!is_signed(&wrong), "{wrong:?}");
    }
}

#[test]
fn the_query_is_read_back_as_what_was_signed() {
    for expires in [None, Some(0), Some(1_893_456_000), Some(999_999_999_999)] {
        let signed = Message { expires, ..message() };
        let target = format!("/demo{PATH}?{}", signed.query(SECRET.as_bytes()));
        let Request { signed_path, signature, .. } = native::parse(target.as_bytes(), None).expect("is read");
        let key = signature.key.expect("there");
        let read = Message { tenant_id: "demo", path: signed_path, expires: signature.expires, key };
        assert_eq!(read, signed);
        assert!(read.is_signed_by(SECRET.as_bytes(), signature.signature.expect("there")), "{target}");
    }
    assert_eq!(message().query(SECRET.as_bytes()), format!("exp=1893456000&kid=2026-01&sig={KNOWN}"));
}

#[test]
fn names_of_keys() {
    for good in ["k", "2026-01", "K_-9", &"k".repeat(63)] {
        assert_eq!(KeyName::new(good).expect(good).as_str(), good);
    }
    for bad in ["", "a b", "a.b", "a:b", "ü", "a\n", "k=", &"k".repeat(64)] {
        assert!(KeyName::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_path_that_clients_would_change_is_not_for_signing() {
    for good in [PATH, "/w=400,bg=%23fff/@local/my%20b%C3%BCro.jpg", "/-/@local/a;b!c'd(e)*f+g~h.jpg"] {
        check_wire_form(good).expect(good);
    }
    for bad in [" ", "ü", "\"", "#", "<", ">", "\\", "^", "`", "{", "|", "}", "[", "]", "?", "\n", "\u{7f}"] {
        let error = check_wire_form(&format!("/w=400/@local/a{bad}.jpg")).expect_err(bad);
        assert_eq!(error.code(), "bad-encoding", "{bad:?}");
    }
}
