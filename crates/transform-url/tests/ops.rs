//! Every op: what it takes, its canonical text, what it refuses.

use transform_url::table::TABLE;
use transform_url::{Ops, Transform, UrlError};

fn resolve(ops: &str) -> Result<Transform, UrlError> {
    Ops::parse(ops)?.resolve(|_| None)
}

#[track_caller]
fn check(ops: &str, canonical: &str) {
    let transform = resolve(ops).unwrap_or_else(|error| panic!("{ops}: {error}"));
    assert_eq!(transform.to_string(), canonical, "{ops}");
    assert_eq!(resolve(canonical).as_ref(), Ok(&transform), "{canonical} is read back");
}

#[track_caller]
fn check_refused(op: &str, values: &[&str]) {
    for value in values {
        let error = resolve(&format!("{op}={value}")).expect_err(value);
        assert_eq!(error.code(), "bad-value", "{op}={value}: {error}");
    }
}

#[test]
fn aliases_order_and_defaults() {
    check("w=400", "width=400");
    check("h=10,w=400,f=jpg,q=080", "format=jpeg,height=10,quality=80,width=400");
    check("f=auto", "format=auto");
    check("fit=scale-down,g=center,dpr=1,rotate=0,anim=true,metadata=none,lossless=false", "format=auto");
    check("brightness=1,contrast=1.0,saturation=1.000,gamma=01", "format=auto");
    check("fit=cover,g=centre", "fit=cover");
}

#[test]
fn numbers_are_minimal() {
    check("blur=2.50", "blur=2.5");
    check("blur=.5", "blur=0.5");
    check("sharpen=1.00004", "sharpen=1");
    check("gamma=0.30000000000000004", "gamma=0.3");
    check("gamma=2.99995", "gamma=3");
    check_refused("blur", &["0.2", "250.1", "-1", "1.", ".", "", "1e1", "+1", "1%2C5", "nan", "inf", "0x1"]);
    check_refused("sharpen", &["0", "10.1"]);
    check_refused("contrast", &["10.0001", "-0.1"]);
    check_refused("width", &["0", "8193", "-1", "1.5", "400px", "auto"]);
    check_refused("page", &["-1", "10000"]);
    check_refused("pixelate", &["1", "513"]);
    check_refused("max-bytes", &["0", "100000001"]);
}

#[test]
fn angles_are_modulo_360() {
    check("rotate=90", "rotate=90");
    check("rotate=450", "rotate=90");
    check("rotate=-90", "rotate=270");
    check("rotate=360", "format=auto");
    check("rotate=-0", "format=auto");
    check_refused("rotate", &["90.5", "--90", "-", "", "north"]);
}

#[test]
fn colours_are_eight_hex_digits() {
    for white in [
        "white",
        "fff",
        "%23FFF",
        "ffffff",
        "FFFFFFFF",
        "rgb(255%2C255%2C255)",
        "rgb(255 255 255)".replace(' ', "%20").as_str(),
    ] {
        check(&format!("bg={white}"), "background=ffffffff");
    }
    check("bg=transparent", "background=00000000");
    check("bg=ff000080", "background=ff000080");
    check("border=3;red", "border=3;ff0000ff");
    check_refused("background", &["", "nocolour", "12", "ggg", "rgb(1", &"f".repeat(65)]);
    check_refused("border", &["", "3", "3;", ";red", "0;red", "8193;red", "3;red;4"]);
}

#[test]
fn dpr_is_multiplied_in() {
    check("w=200,dpr=2", "width=400");
    check("w=101,h=101,dpr=1.5", "height=152,width=152");
    check("dpr=3", "format=auto");
    check("w=10,radius=4,border=2;red,dpr=2", "border=4;ff0000ff,radius=8,width=20");
    check("w=10,radius=max,dpr=2", "radius=max,width=20");
    check("ol=logo;north;5;6,dpr=2", "overlay=logo;north;10;12;0;1");
    check("w=8192,dpr=1", "width=8192");
    check_refused("dpr", &["0.9", "4.1", "0", "x2"]);
    let error = resolve("w=8000,dpr=2").expect_err("too wide");
    assert_eq!(error.code(), "bad-value");
    assert!(error.to_string().contains("dpr"), "{error}");
}

#[test]
fn places_and_shapes() {
    check("g=0.30x.7,fit=cover", "fit=cover,gravity=0.3x0.7");
    check("g=top-left", "gravity=north-west");
    check("g=right", "gravity=east");
    check("g=auto", "gravity=auto");
    check_refused("gravity", &["middle", "1.1x0", "0.5", "0.5x", "x", "0.5x0.5x0.5", "-0.1x0"]);
    check("rect=1;2;3;04", "rect=1;2;3;4");
    check("rect=0.5;0;0.50;1", "rect=0.5;0;0.5;1");
    check_refused(
        "rect",
        &[
            "",
            "1;2;3",
            "1;2;3;4;5",
            "0;0;0;5",
            "0;0;5;0",
            "0.5;0;0;1",
            "0.5;0;2;1",
            "-1;0;1;1",
            "70000;0;1;1",
            "1.0;1.0;1.0;1.0",
        ],
    );
    check("trim=10", "trim=10");
    check("trim=1;2;3;4", "trim=1;2;3;4");
    check_refused("trim", &["256", "1;2", "1;2;3", "-1", "auto"]);
    check("radius=max", "radius=max");
    check_refused("radius", &["0", "min", "8193"]);
    check("flip=vh", "flip=hv");
    check_refused("flip", &["x", "H", ""]);
    check("ol=logo", "overlay=logo;center;0;0;0;1");
    check("ol=logo;tile;;;0.5", "overlay=logo;tile;0;0;0.5;1");
    check_refused(
        "overlay",
        &["", ";", "Logo", "logo;nowhere", "logo;north;-1", "logo;north;1;1;2", "logo;north;1;1;1;1;1"],
    );
}

#[test]
fn texts_survive_encoding() {
    check("v=a%2Cb%2Fc%25%20%3F", "v=a%2Cb%2Fc%25%20%3F");
    check("v=1=2", "v=1=2");
    check("v=b%C3%BC", "v=b%C3%BC");
    check("dl=my%20photo.jpg", "download=my%20photo.jpg");
    check_refused("download", &["", "a%2Fb", "..%2Fx", ".htaccess", "a%5Cb", &"x".repeat(201)]);
    check_refused("v", &["", &"x".repeat(129)]);
    check_refused("fallback", &["", "A", "a.b"]);
}

#[test]
fn words() {
    check("q=high", "quality=high");
    check("q=1", "quality=1");
    check_refused("quality", &["0", "101", "best", "256", "1000"]);
    check_refused("fit", &["", "SCALE-DOWN", "fill"]);
    check_refused("format", &["", "bmp", "webm", "JPEG"]);
    check_refused("anim", &["1", "yes", "TRUE"]);
    check("filter=greyscale", "filter=grayscale");
    check("t=1.5", "t=1.5");
    check_refused("t", &["-1", "86400.5"]);
}

#[test]
fn presets_expand_first_and_explicit_ops_win() {
    let card = Ops::parse("w=300,h=200,fit=cover,q=60").expect("a preset");
    let nested = Ops::parse("p=card,w=5").expect("parses");
    let find = |name: &transform_url::value::Name| match name.as_str() {
        "card" => Some(&card),
        "nested" => Some(&nested),
        _ => None,
    };
    let resolve = |text: &str| Ops::parse(text).expect("parses").resolve(find).map(|transform| transform.to_string());
    assert_eq!(resolve("p=card"), Ok("fit=cover,height=200,quality=60,width=300".into()));
    assert_eq!(resolve("w=100,p=card"), Ok("fit=cover,height=200,quality=60,width=100".into()));
    assert_eq!(
        resolve("p=card,fit=scale-down"),
        Ok("height=200,quality=60,width=300".into()),
        "an explicit default wins too"
    );
    assert_eq!(resolve("p=card,dpr=2"), Ok("fit=cover,height=400,quality=60,width=600".into()));
    assert_eq!(resolve("p=none").expect_err("unknown").code(), "unknown-preset");
    assert_eq!(resolve("p=nested").expect_err("nested").code(), "nested-preset");
}

#[test]
fn the_cache_text_has_all_but_the_download_name() {
    let transform = resolve("w=5,dl=a.jpg,v=3").expect("resolves");
    assert_eq!(transform.cache_text(), "v=3,width=5");
    assert_eq!(resolve("dl=a.jpg").expect("resolves").cache_text(), "format=auto");
}

/// The table itself: names unique and well formed, documented, every default readable and dropped.
#[test]
fn the_table_is_sound() {
    let mut names: Vec<&str> = TABLE.iter().flat_map(|spec| std::iter::once(spec.name).chain(spec.short)).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    for spec in TABLE {
        assert!(spec.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", spec.name);
        assert!(spec.doc.trim().ends_with(['.', ';']) && !(spec.allowed)().is_empty(), "{}", spec.name);
        if let Some(default) = (spec.default)() {
            check(&format!("{}={default}", spec.name), "format=auto");
        }
    }
}

#[test]
fn what_the_table_offers_is_read_and_is_canonical() {
    for spec in TABLE {
        let (name, default) = (spec.name, (spec.default)());
        let words = (spec.choices)().iter().map(|word| (*word).to_owned());
        let ends = (spec.range)().into_iter().flat_map(|range| [range.min, range.max]);
        for value in words.chain(ends).filter(|value| Some(value) != default.as_ref()) {
            // Alone, `dpr` multiplies nothing.
            let canonical = if name == "dpr" { "format=auto".to_owned() } else { format!("{name}={value}") };
            check(&format!("{name}={value}"), &canonical);
        }
    }
    let words = |name| (transform_url::table::find(name).expect(name).choices)();
    assert_eq!(words("gravity").len(), 2 + transform_url::value::Compass::ALL.len(), "auto, entropy and the compass");
    assert_eq!(words("quality"), ["low", "medium-low", "medium-high", "high"]);
    assert!(words("width").is_empty());
}

#[test]
fn what_lies_outside_of_an_offered_range_is_refused() {
    for spec in TABLE {
        // An angle is taken modulo 360.
        let Some(range) = (spec.range)().filter(|_| spec.name != "rotate") else { continue };
        check_refused(spec.name, &[&format!("{}1", range.max)]);
        if range.is_whole {
            check_refused(spec.name, &[&format!("{}.5", range.min)]);
        }
    }
}
