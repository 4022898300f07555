//! What the policy file says about signatures.

use tenancy::{Mistake, PolicyError, PolicyFile, Tenant};

/// 32 bytes, the least.
const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

fn load(text: &str) -> Vec<Tenant> {
    PolicyFile::load(text).expect("is a policy")
}

fn demo(tenants: &[Tenant]) -> &Tenant {
    tenants.iter().find(|tenant| tenant.slug.as_str() == "demo").expect("there")
}

fn mistakes(text: &str) -> Vec<Mistake> {
    match PolicyFile::load(text).expect_err(text) {
        PolicyError::Mistakes(mistakes) => mistakes,
        error => panic!("{error}"),
    }
}

#[test]
fn nothing_said_is_optional_without_keys() {
    let policy = load("[tenants.demo]\npresets.card = 'w=300'\npresets.thumb = 'w=60'");
    let signing = &demo(&policy).signing;
    assert!(!signing.required && !signing.expiry_required && signing.keys.is_empty());
    let presets: Vec<&str> = signing.unsigned.presets.iter().map(|name| name.as_str()).collect();
    assert_eq!(presets, ["card", "thumb"], "every registered preset");
    assert!(signing.unsigned.widths.is_empty());
    assert!(demo(&load("[tenants.demo]")).signing.unsigned.is_empty());
}

#[test]
fn everything_said_is_read() {
    let policy = load(&format!(
        "[tenants.demo]\nsigned = 'required'\nexpiry_required = true\npresets.card = 'w=300'\npresets.thumb = 'w=60'\n\
         [tenants.demo.keys]\n2026-01 = '{SECRET}'\nNext_ = '{}'\n\
         [tenants.demo.unsigned]\nwidths = [640, 1, 8192, 640]\npresets = ['card']",
        "é".repeat(128)
    ));
    let signing = &demo(&policy).signing;
    assert!(signing.required && signing.expiry_required);
    let lengths: Vec<_> = signing.keys.iter().map(|(name, key)| (name.as_str(), key.expose().len())).collect();
    assert_eq!(lengths, [("2026-01", 32), ("Next_", 256)]);
    assert_eq!(signing.unsigned.widths.iter().copied().collect::<Vec<u32>>(), [1, 640, 8192]);
    assert_eq!(signing.unsigned.presets.len(), 1);
    assert!(!format!("{policy:?}").contains(SECRET), "a secret is never printed");
    assert!(demo(&load("[tenants.demo]\npresets.a = 'w=1'\nunsigned.presets = []")).signing.unsigned.is_empty());
    assert!(!demo(&load("[tenants.demo]\nopen = true\nsigned = 'optional'")).signing.required);
}

#[test]
fn mistakes_are_told_by_key_and_without_the_secret() {
    let short = "swordfish".repeat(3);
    let long = "swordfish".repeat(29);
    let found = mistakes(&format!(
        "[tenants.demo]\nopen = true\nsigned = 'required'\npresets.card = 'w=300'\npresets.broken = 'wdith=3'\n\
         [tenants.demo.keys]\nshort = '{short}'\nlong = '{long}'\nempty = ''\nnumber = 7\n'a b' = '{SECRET}'\n\
         [tenants.demo.unsigned]\nwidths = [0, 320, 8193, -1]\npresets = ['card', 'crad', 'broken']\n\
         [tenants.other]\nkeys = '{short}'"
    ));
    let keys: Vec<&str> = found.iter().map(|mistake| mistake.key.as_str()).collect();
    for (key, count) in [
        ("tenants.demo.signed", 1),
        ("tenants.demo.keys.short", 1),
        ("tenants.demo.keys.long", 1),
        ("tenants.demo.keys.empty", 1),
        ("tenants.demo.keys.number", 1),
        ("tenants.demo.keys.a b", 1),
        ("tenants.demo.unsigned.widths", 3),
        ("tenants.demo.unsigned.presets", 1),
        ("tenants.demo.presets.broken", 1),
        ("tenants.other.keys", 1),
    ] {
        assert_eq!(keys.iter().filter(|found| **found == key).count(), count, "{key} in {keys:#?}");
    }
    let text = found.iter().map(Mistake::to_string).collect::<String>();
    assert!(!text.contains("swordfish") && !text.contains(SECRET), "{text}");
    assert!(text.contains("27 bytes, allowed are 32 to 256"), "{text}");
    assert!(text.contains("no preset \"crad\""), "{text}");
}

/// The parser's own message would repeat the line.
#[test]
fn a_line_that_is_not_toml_is_told_by_its_place_only() {
    for text in [
        "[tenants.demo.keys]\nk = 'swordfish",
        "[tenants.demo.keys]\nk = swordfish",
        "[tenants.demo.keys]\nk = \"swordfish\\q\"",
        "[tenants.demo.keys]\nk = 'a'\nk = 'swordfish'",
    ] {
        let error = PolicyFile::load(text).expect_err(text);
        let PolicyError::Syntax { line, .. } = &error else { panic!("{error}") };
        assert!(*line >= 2, "{error}");
        assert!(!format!("{error} {error:?}").contains("swordfish"), "{error:?}");
    }
    let error = PolicyFile::load("[tenants.a]\n  opne = true").expect_err("unknown key");
    assert!(error.to_string().contains("line 2, column 3: unknown field `opne`"), "{error}");
    let error = PolicyFile::load("[tenants.a]\nsigned = 'maybe'").expect_err("unknown word");
    assert!(error.to_string().contains("`required` or `optional`"), "{error}");
}
