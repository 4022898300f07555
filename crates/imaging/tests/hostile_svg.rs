//! SVGs from strangers: what is not drawn, what is drawn without what it refers to, and that nothing takes the machine.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use image::Rgb;
use imaging::ImagingError;
use support::bounded::bounded;
use support::{render, rgb, try_render};
use testkit::images::{self, frames, hostile, jpeg, png, svg};

/// Most that the drawing of a 300 px picture may take, in megabytes.
const MEGABYTES: u64 = 300;

/// The reason for which it is refused.
#[track_caller]
fn refusal(source: &[u8], what: &str) -> &'static str {
    let error = bounded(what, MEGABYTES, || try_render(source, "w=300,f=png")).expect_err(what);
    assert!(error.is_source_fault(), "{what}: {error:?}");
    match error {
        ImagingError::SvgRefused { reason } => reason,
        other => panic!("{what}: {other:?}"),
    }
}

#[track_caller]
fn is_refused(inside: &str, reason: &str, what: &str) {
    let found = refusal(&svg::with(100, 100, inside), what);
    assert!(found.contains(reason), "{what}: {found}");
}

fn red(inside: &str) -> Vec<u8> {
    svg::with(100, 100, &format!("<rect width=\"100\" height=\"100\" fill=\"#c80000\"/>{inside}"))
}

/// A blue picture as a `data:` URL.
fn blue() -> String {
    let picture = image::RgbImage::from_pixel(10, 10, Rgb([0, 0, 255]));
    svg::data_url("image/png", &png::rgb(&picture, &png::Extras::default()))
}

#[test]
fn what_is_harmless_is_drawn() {
    bounded("everything", MEGABYTES, || render(&svg::with(30, 30, svg::EVERYTHING), "w=300,f=png"));
    for (what, url) in [
        ("PNG", blue()),
        ("PNG under another name", blue().replace("image/png", "")),
        ("spaced", format!(" \n{}", blue().replace("iVBO", "iV\n BO"))),
        ("JPEG", svg::data_url("image/jpeg", &jpeg::rgb(&images::places(9, 9), &jpeg::Extras::default()))),
        ("GIF", svg::data_url("image/gif", &frames::gif(3, None))),
    ] {
        render(&red(&format!("<image width=\"50\" height=\"50\" xlink:href=\"{url}\"/>")), "w=300,f=png");
        assert!(!what.is_empty());
    }
    let shown = rgb(&red(&format!("<image width=\"50\" height=\"50\" href=\"{}\"/>", blue())), "w=100");
    assert_eq!((shown.get_pixel(25, 25), shown.get_pixel(75, 75)), (&Rgb([0, 0, 255]), &Rgb([200, 0, 0])));

    let header = "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" \
        \"http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd\" [<!ENTITY ns_svg \"http://www.w3.org/2000/svg\">]>";
    let drawing =
        "<svg xmlns=\"&ns_svg;\" width=\"9\" height=\"9\"><desc>\u{e9}</desc><rect width=\"9\" height=\"9\"/></svg>";
    let latin: Vec<u8> = format!("{header}{drawing}").chars().map(|c| c as u8).collect();
    render(&latin, "f=png");
}

#[test]
fn nothing_from_outside_is_loaded_or_run() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret.png");
    std::fs::write(&secret, png::rgb(&image::RgbImage::from_pixel(9, 9, Rgb([0, 0, 255])), &png::Extras::default()))
        .unwrap();
    let path = secret.display();
    for inside in [
        "<script>document.documentElement.remove()</script><g onload=\"alert(1)\"/>".to_owned(),
        "<a xlink:href=\"javascript:alert(1)\"><set attributeName=\"href\" to=\"javascript:alert(2)\"/></a>".to_owned(),
        "<foreignObject width=\"100\" height=\"100\"><p xmlns=\"http://www.w3.org/1999/xhtml\">text</p></foreignObject>"
            .to_owned(),
        "<image width=\"100\" height=\"100\" xlink:href=\"http://127.0.0.1:9/a.png\"/>".to_owned(),
        format!("<image width=\"100\" height=\"100\" xlink:href=\"{path}\"/>"),
        format!("<image width=\"100\" height=\"100\" href=\"file://{path}\"/>"),
        "<image width=\"100\" height=\"100\" href=\"secret.png\"/>".to_owned(),
        format!("<use xlink:href=\"{path}#a\"/><rect width=\"9\" height=\"9\" filter=\"url({path}#f)\"/>"),
        format!("<style>@import \"{path}\"; @import url(http://127.0.0.1:9/a.css);</style>"),
        "<rect width=\"9\" height=\"9\" style=\"fill:url(http://127.0.0.1:9/a.svg#b) #c80000\"/>".to_owned(),
    ] {
        let picture = rgb(&red(&inside), "w=100,bg=fff");
        assert_eq!(picture.get_pixel(50, 50), &Rgb([200, 0, 0]), "{inside}");
    }
}

#[test]
fn entities_neither_load_nor_explode() {
    for levels in [4, 9] {
        let reason = refusal(&svg::billion_laughs(levels), "laughs");
        assert!(reason.contains("entities"), "{reason}");
    }
    let typed = |declarations: &str, inside: &str| {
        let document = String::from_utf8(svg::with(100, 100, inside)).unwrap();
        format!("<?xml version=\"1.0\"?><!DOCTYPE svg [{declarations}]>{document}").into_bytes()
    };
    for (declarations, reason) in [
        ("<!ENTITY x SYSTEM \"file:///etc/passwd\">", "external"),
        ("<!ENTITY x PUBLIC \"a\" \"http://127.0.0.1:9/\">", "external"),
        ("<!ENTITY % y SYSTEM \"file:///etc/passwd\"><!ENTITY x \"a\">", "parameter"),
        ("<!ENTITY x \"a\"><!ATTLIST image href CDATA \"data:\">", "attributes"),
    ] {
        let found = refusal(&typed(declarations, "<text>&x;</text>"), declarations);
        assert!(found.contains(reason), "{declarations}: {found}");
    }
    let used = typed("<!ENTITY % y \"<!ENTITY x 'good'>\"> %y; <!ENTITY x \"bad\">", "<text>&x;</text>");
    let error = try_render(&used, "f=png").unwrap_err();
    assert!(matches!(error, ImagingError::Corrupt(_)), "{error:?}");
    // What an entity hides is seen.
    let bomb = svg::data_url("image/png", &hostile::png_claiming(30_000, 30_000));
    let (head, tail) = bomb.split_at(8);
    let source = typed(
        &format!("<!ENTITY h \"{head}\"><!ENTITY t \"{tail}\">"),
        "<image width=\"9\" height=\"9\" href=\"&h;&t;\"/>",
    );
    assert!(refusal(&source, "hidden picture").contains("too many pixels"));
}

#[test]
fn an_embedded_picture_is_held_to_its_size() {
    let bomb = svg::data_url("image/png", &hostile::png_claiming(30_000, 30_000));
    let image = |url: &str| format!("<image id=\"i\" width=\"9\" height=\"9\" xlink:href=\"{url}\"/>");
    for (what, url) in [
        ("plain", bomb.clone()),
        ("capitals", bomb.replace("data:", "DaTa:")),
        ("another type", bomb.replace("image/png", "image/gif")),
        ("no type", bomb.replace("image/png", "")),
        ("references", bomb.replace("data:", "&#100;&#x61;ta:")),
        ("line ends", bomb.replace("data:", " d&#10;a&#9;ta:").replace("iVBO", "iV BO")),
        ("no padding", bomb.trim_end_matches('=').to_owned()),
        ("escaped", bomb.replace("iVBO", "%69VBO")),
        ("a fragment", format!("{bomb}#a")),
        ("spaced base64", bomb.replace(";base64", "; base64 ")),
    ] {
        is_refused(&image(&url), "too many pixels", what);
    }
    is_refused(&format!("<filter id=\"f\"><feImage href=\"{bomb}\"/></filter>"), "too many pixels", "in a filter");
    // Each is small enough, and all together are not.
    let large = svg::data_url("image/png", &hostile::png_claiming(6_000, 6_000));
    is_refused(&format!("{}<use href=\"#i\"/>", image(&large)), "too many pixels", "used again");
    is_refused(&image(&large).repeat(2), "too many pixels", "twice");

    let inner = svg::with(9, 9, "<rect width=\"9\" height=\"9\"/>");
    let is_other = "something else";
    is_refused(&image(&svg::data_url("image/svg+xml", &inner)), is_other, "an SVG");
    is_refused(&image("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"), is_other, "an SVG as text");
    is_refused(&image(&svg::data_url("image/png", b"\x1f\x8b\x08\0")), is_other, "gzip");
    is_refused(&image(&svg::data_url("image/tiff", b"II*\0\x08\0\0\0")), is_other, "TIFF");
    is_refused(&image("data:image/png;base64,@@@@"), "cannot be decoded", "no base64");
}

#[test]
fn documents_inside_of_documents_are_refused() {
    let inner = svg::data_url("image/svg+xml", &svg::with(9, 9, "<g id=\"a\"/>"));
    let css = "data:text/css,*%7Bfilter:blur(9px)%7D";
    for inside in [
        format!("<use href=\"{inner}#a\"/>"),
        "<use xlink:href=\"&#100;ata:image/svg+xml,x#a\"/>".to_owned(),
        format!("<rect filter=\"url({inner}#a)\"/>"),
        format!("<rect style=\"filter:url('{inner}#a')\"/>"),
        "<rect style=\"filter:url(\\64 ata:image/svg+xml,x#a)\"/>".to_owned(),
        format!("<style>rect{{mask:url( \"{inner}#a\" )}}</style>"),
        "<style>rect{mask:u\\72l(d\\61ta:image/svg+xml,&lt;svg>#a)}</style>".to_owned(),
        format!("<style>@import \"{css}\";</style>"),
        format!("<style>@/**/im\\70ort url({css});</style>"),
        format!("<style><![CDATA[@import url({css});]]></style>"),
        format!("<linearGradient id=\"g\" href=\"{inner}#a\"/>"),
        format!("<xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"{inner}\"/>"),
        "<x:include xmlns:x=\"http://www.w3.org/2001/XInclude\" href=\"a.svg\"/>".to_owned(),
    ] {
        let found = refusal(&svg::with(100, 100, &inside), &inside);
        assert!(found.contains("embeds another") || found.contains("includes another"), "{inside}: {found}");
    }
    let plain = String::from_utf8(svg::with(9, 9, "")).unwrap();
    for link in [css.to_owned(), css.replace("data", "&#100;ata")] {
        let source = format!("<?xml version=\"1.0\"?><?xml-stylesheet type=\"text/css\" href=\"{link}\"?>{plain}");
        assert!(refusal(source.as_bytes(), "a style sheet").contains("style sheet"));
    }
}

#[test]
fn other_encodings_are_refused() {
    let plain = String::from_utf8(svg::with(9, 9, "<text>+AGE-</text>")).unwrap();
    for encoding in ["UTF-7", "UTF-16", "IBM037", "utf-8x", "x'utf-8"] {
        let source = format!("<?xml version=\"1.0\" encoding=\"{encoding}\"?>{plain}");
        assert!(refusal(source.as_bytes(), encoding).contains("neither in UTF-8"), "{encoding}");
    }
    let source = [b"<svg xmlns=\"http://www.w3.org/2000/svg\"><desc>", &b"\xff</desc></svg>"[..]].concat();
    assert!(refusal(&source, "broken UTF-8").contains("not valid UTF-8"));
    // gzip
    let error = try_render(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], "f=png").unwrap_err();
    assert!(matches!(error, ImagingError::NotAnImage), "{error:?}");
}

#[test]
fn what_refers_to_itself_or_nests_without_end_is_refused() {
    is_refused(&svg::uses_of_uses(9), "too many elements", "10^9 uses");
    is_refused("<g id=\"a\"><use href=\"#a\"/><use href=\"#a\"/></g>", "nested too deeply", "itself");
    is_refused(
        "<pattern id=\"p\"><rect id=\"r\" fill=\"url(#p)\"/></pattern>",
        "nested too deeply",
        "a pattern of itself",
    );
    for (what, depth) in [("groups", 500), ("very many groups", 100_000)] {
        let inside = "<g>".repeat(depth) + &"</g>".repeat(depth);
        is_refused(&inside, if depth > 300_000 { "too many" } else { "nested too deeply" }, what);
    }
    let layers = "<g opacity=\".9\">".repeat(50) + "<rect width=\"9\" height=\"9\"/>" + &"</g>".repeat(50);
    is_refused(&layers, "nested too deeply", "layers");
    is_refused(&"<rect/>".repeat(150_000), "too many elements", "many elements");
    let path = "L1 1".repeat(20_000);
    let marks = format!(
        "<marker id=\"m\">{}</marker><path d=\"M0 0{path}\" style=\"marker:url(#m)\"/>",
        "<rect width=\"1\" height=\"1\"/>".repeat(20)
    );
    is_refused(&marks, "too many elements", "markers");
}

#[test]
fn filters_are_held_to_their_cost() {
    let costly = "too long";
    for (what, primitives) in [
        ("octaves", "<feTurbulence baseFrequency=\".5\" numOctaves=\"100000\"/>".to_owned()),
        ("a wide neighbourhood", "<feMorphology radius=\"400\"/>".to_owned()),
    ] {
        let source = svg::with(2000, 2000, &svg::filtered(&primitives));
        let error = bounded(what, MEGABYTES, || try_render(&source, "w=1500,f=png")).expect_err(what);
        assert!(matches!(error, ImagingError::SvgRefused { reason } if reason.contains(costly)), "{what}: {error:?}");
    }
    is_refused(&svg::filtered(&"<feOffset dx=\"1\"/>".repeat(1000)), "too many steps", "steps");
    let relative = "<filter id=\"f\" primitiveUnits=\"objectBoundingBox\"><feMorphology radius=\"1\"/></filter>\
        <rect width=\"100\" height=\"100\" filter=\"url(#f)\"/>";
    is_refused(relative, "radius is not known", "a radius in shares of the picture");

    let blurs = "<rect width=\"100%\" height=\"100%\" filter=\"blur(9px)\"/>".repeat(500);
    let classes =
        format!("<style>@media all{{.a,.b{{FI\\6cter:blur(9px)}}}}</style>{}", "<rect class=\"b\"/>".repeat(500));
    for (what, inside) in [("functions", &blurs), ("classes", &classes)] {
        let error = try_render(&svg::with(1000, 1000, inside), "f=png").expect_err(what);
        assert!(matches!(error, ImagingError::SvgRefused { reason } if reason.contains(costly)), "{what}: {error:?}");
        // The same is drawn small.
        bounded(what, MEGABYTES, || render(&svg::with(1000, 1000, inside), "w=60,f=png"));
    }
    // Also where all of it is looked at, whatever becomes of it then.
    let error = try_render(&svg::with(1000, 1000, &blurs), "trim=3,w=60,f=png").unwrap_err();
    assert!(matches!(error, ImagingError::SvgRefused { reason } if reason.contains(costly)), "{error:?}");

    for primitives in
        ["<feGaussianBlur stdDeviation=\"5000\"/>", "<feTurbulence baseFrequency=\".5\" numOctaves=\"9\"/>"]
    {
        bounded(primitives, MEGABYTES, || render(&svg::with(2000, 2000, &svg::filtered(primitives)), "w=300,f=png"));
    }
}

#[test]
fn patterns_and_dashes_stay_small() {
    let pattern = |side: &str| {
        format!(
            "<pattern id=\"p\" width=\"{side}\" height=\"{side}\" patternUnits=\"userSpaceOnUse\"><rect width=\"1\" \
             height=\"1\" fill=\"red\"/></pattern><rect width=\"100\" height=\"100\" fill=\"url(#p)\"/>"
        )
    };
    for inside in [
        pattern("0.0001"),
        pattern("100000"),
        "<path d=\"M0 0L1000000 1000000\" stroke=\"red\" stroke-dasharray=\".001\"/>".to_owned(),
        "<text font-size=\"100000\">text</text>".to_owned(),
        "<g transform=\"scale(1e9)\"><circle r=\"1e9\" stroke=\"red\" stroke-width=\"1e9\"/></g>".to_owned(),
    ] {
        // What librsvg itself refuses is an answer too.
        let made = bounded(&inside, MEGABYTES, || try_render(&svg::with(100, 100, &inside), "w=300,f=png"));
        assert!(made.as_ref().err().is_none_or(ImagingError::is_source_fault), "{inside}: {made:?}");
    }
}

#[test]
fn absurd_sizes_are_refused_or_drawn_small() {
    let sized = |attributes: &str| {
        format!("<svg xmlns=\"http://www.w3.org/2000/svg\" {attributes}><rect width=\"9\" height=\"9\"/></svg>")
            .into_bytes()
    };
    for attributes in [
        "width=\"0\" height=\"0\"",
        "width=\"-5\" height=\"5\"",
        "width=\"1e9\" height=\"1e9\"",
        "width=\"1e300\" height=\"1\"",
        "width=\"1\" height=\"100000\"",
        "width=\"100000\" height=\"100000\"",
        "width=\"NaN\" height=\"inf\"",
        "viewBox=\"0 0 0 0\"",
        "viewBox=\"0 0 1e30 1e30\"",
        "viewBox=\"0 0 -1 -1\"",
        "width=\"0.001\" height=\"0.001\"",
        "width=\"100%\" height=\"100%\"",
        "",
    ] {
        for ops in ["w=300,f=png", "w=300,h=300,fit=cover,f=jpeg", "f=json", "trim=3,w=60,f=png"] {
            let made = bounded(attributes, MEGABYTES, || try_render(&sized(attributes), ops));
            if let Err(error) = made {
                let is_known = error.is_source_fault() || matches!(error, ImagingError::Geometry(_));
                assert!(is_known, "{attributes} {ops}: {error:?}");
            }
        }
    }
    let error = try_render(&sized("width=\"30000\" height=\"30000\""), "trim=3,w=60,f=png").unwrap_err();
    assert!(matches!(error, ImagingError::TooManyPixels { .. }), "a trim looks at all of it: {error:?}");
}

/// librsvg 2.54 ends the process when any of these is drawn.
#[test]
fn what_is_fatal_is_refused() {
    is_refused(&svg::filtered("<feFlood y=\"200\"/><feTile/>"), "tiles", "tiles of nothing");
    let nested = |size: &str| {
        let groups = format!("<g font-size=\"{size}\">").repeat(90);
        format!("{groups}<text>x</text>{}", "</g>".repeat(90))
    };
    let huge = "numbers that are too large";
    for (inside, reason) in [
        ("<text font-size=\"1e30\">x</text>".to_owned(), huge),
        ("<text style=\"font:bold 1E30px serif\">x</text>".to_owned(), huge),
        ("<style>text{font-size:100000000000000000000000000000px}</style><text>x</text>".to_owned(), huge),
        ("<path d=\"M1 1L5-1e31 9\"/>".to_owned(), huge),
        (nested("3em"), "text that is too large"),
        (nested("300%"), "text that is too large"),
        (nested("9ex"), "text that is too large"),
        (format!("<style>g{{font:3em serif}}</style>{}", nested("")), "text that is too large"),
    ] {
        is_refused(&inside, reason, &inside);
    }
    let names = "<style>.st-1628000000000{fill:red}</style><g id=\"a-1628000000000\" data-x=\"1e99\" fill=\"#1234567\">\
        <text class=\"st-1628000000000\" style=\"font:700 2em/1.5 serif\" x=\"-5e6\">x</text></g>";
    render(&svg::with(100, 100, names), "w=100,f=png");
}

/// A list that is longer than the renderer reads is fatal too.
#[test]
fn a_matrix_of_another_size_than_it_says_is_refused() {
    for (order, numbers) in
        [("3", 500), ("20", 500), ("300", 90_000), ("-3", 9), ("3 99999999999", 9), ("65536", 0), ("1 2 3", 6)]
    {
        let numbers = "1 ".repeat(numbers);
        let matrix = format!("<feConvolveMatrix order=\"{order}\" kernelMatrix=\"{numbers}\"/>");
        is_refused(&svg::filtered(&matrix), "matrix that is too large", order);
    }
    let edges = "<feConvolveMatrix order=\"3 3\" kernelMatrix=\"-1,-1,-1 -1,8,-1 -1,-1,-1\"/>";
    render(&svg::with(100, 100, &svg::filtered(edges)), "w=100,f=png");
    let short = "<feConvolveMatrix order=\"5\" kernelMatrix=\"1 1\"/>";
    render(&svg::with(100, 100, &svg::filtered(short)), "w=100,f=png");
}
