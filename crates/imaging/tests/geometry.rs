//! The sizes of every fit for wide, tall, small and equal sources, and the limits on them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use imaging::{Frame, GeometryError, Region, Size, geometry};
use proptest::prelude::*;
use support::transform;
use testkit::images;

const LIMIT_PX: u32 = 8192;
const WIDE: Size = Size::new(1600, 900);
const TALL: Size = Size::new(900, 1600);
const SMALL: Size = Size::new(200, 100);
const EQUAL: Size = Size::new(400, 300);
/// Wider than the box and lower.
const FLAT: Size = Size::new(1000, 200);

#[track_caller]
fn check(ops: &str, source: Size, wanted: (u32, u32)) {
    let output = geometry(source, &transform(ops), LIMIT_PX).unwrap().output;
    assert_eq!((output.width, output.height), wanted, "{ops} of {source}");
}

#[test]
fn every_fit_in_a_box() {
    let fits = [
        //                WIDE        TALL        SMALL       EQUAL       FLAT
        ("scale-down", [(400, 225), (169, 300), (200, 100), (400, 300), (400, 80)]),
        ("contain", [(400, 225), (169, 300), (400, 200), (400, 300), (400, 80)]),
        ("scale-up", [(1600, 900), (900, 1600), (400, 200), (400, 300), (1000, 200)]),
        ("cover", [(400, 300), (400, 300), (400, 300), (400, 300), (400, 300)]),
        ("crop", [(400, 300), (400, 300), (200, 100), (400, 300), (400, 200)]),
        ("pad", [(400, 300), (400, 300), (400, 300), (400, 300), (400, 300)]),
        ("squeeze", [(400, 300), (400, 300), (400, 300), (400, 300), (400, 300)]),
    ];
    for (fit, sizes) in fits {
        for (source, wanted) in [WIDE, TALL, SMALL, EQUAL, FLAT].into_iter().zip(sizes) {
            check(&format!("w=400,h=300,fit={fit}"), source, wanted);
        }
    }
}

#[test]
fn every_fit_with_one_side() {
    let fits = [
        ("scale-down", (400, 225), (200, 100)),
        ("contain", (400, 225), (400, 200)),
        ("scale-up", (1600, 900), (400, 200)),
        ("cover", (400, 225), (400, 200)),
        ("crop", (400, 225), (200, 100)),
        ("pad", (400, 225), (400, 200)),
        ("squeeze", (400, 225), (400, 200)),
    ];
    for (fit, wide, small) in fits {
        check(&format!("w=400,fit={fit}"), WIDE, wide);
        check(&format!("w=400,fit={fit}"), SMALL, small);
        check(&format!("h=400,fit={fit}"), WIDE.swapped(), (wide.1, wide.0));
        check(&format!("h=400,fit={fit}"), SMALL.swapped(), (small.1, small.0));
    }
}

#[test]
fn without_sides_the_picture_keeps_its_size_up_to_the_limit() {
    check("f=auto", WIDE, (1600, 900));
    check("f=auto", Size::new(10_000, 4000), (8192, 3277));
    check("f=auto", Size::new(40, 10_000), (33, 8192));
}

#[test]
fn a_side_is_never_below_one_pixel() {
    check("w=1", Size::new(8000, 10), (1, 1));
    check("w=10", Size::new(8000, 1), (10, 1));
}

#[test]
fn dpr_multiplies_the_box() {
    check("w=200,h=150,dpr=2,fit=cover", WIDE, (400, 300));
    check("w=100,dpr=1.5", WIDE, (150, 84));
}

#[test]
fn a_quarter_turn_swaps_what_the_sides_mean() {
    check("w=400,rotate=90", WIDE, (400, 711));
    check("w=300,h=400,fit=cover,rotate=270", WIDE, (300, 400));
    check("w=300,h=400,fit=cover,rotate=180", WIDE, (300, 400));
    check("rotate=90", WIDE, (900, 1600));
}

#[test]
fn another_angle_grows_the_result() {
    check("w=100,h=100,fit=cover,rotate=45", WIDE, (141, 141));
    check("w=200,h=100,fit=cover,rotate=30", WIDE, (223, 187));
    check("w=200,h=100,fit=cover,rotate=120", WIDE, (187, 223));
}

#[test]
fn gravity_places_the_cut_and_the_padding() {
    let crop = |ops: &str| match geometry(WIDE, &transform(ops), LIMIT_PX).unwrap().frame {
        Frame::Crop(Region { x, y, .. }) => (x, y),
        other => panic!("{ops}: {other:?}"),
    };
    // 1600×900 covers 300×300 as 533×300.
    for (gravity, x) in [("west", 0), ("center", 116), ("east", 233), ("north", 116), ("south-west", 0)] {
        assert_eq!(crop(&format!("w=300,h=300,fit=cover,g={gravity}")), (x, 0), "{gravity}");
    }
    for (focal, x) in [("0x0.5", 0), ("1x0.5", 233), ("0.5x0", 117), ("0.4x0.9", 63), ("0.3x0.3", 10)] {
        assert_eq!(crop(&format!("w=300,h=300,fit=cover,g={focal}")), (x, 0), "{focal}");
    }
    let pad = |ops: &str| match geometry(WIDE, &transform(ops), LIMIT_PX).unwrap().frame {
        Frame::Pad { x, y, .. } => (x, y),
        other => panic!("{ops}: {other:?}"),
    };
    // 1600×900 fits 320×300 as 320×180.
    for (gravity, y) in [("north", 0), ("center", 60), ("south-east", 120), ("0.5x0.25", 30), ("auto", 60)] {
        assert_eq!(pad(&format!("w=320,h=300,fit=pad,g={gravity}")), (0, y), "{gravity}");
    }
    let content = geometry(WIDE, &transform("w=300,h=300,fit=cover,g=auto"), LIMIT_PX).unwrap().frame;
    assert_eq!(content, Frame::ContentCrop(Size::new(300, 300)));
}

#[test]
fn rect_is_clipped_and_must_touch_the_picture() {
    let region = |ops: &str| {
        let region = geometry(WIDE, &transform(ops), LIMIT_PX).unwrap().region;
        (region.x, region.y, region.size.width, region.size.height)
    };
    assert_eq!(region("rect=100;50;400;300"), (100, 50, 400, 300));
    assert_eq!(region("rect=1500;800;400;300"), (1500, 800, 100, 100));
    assert_eq!(region("rect=0.5;0;0.5;1"), (800, 0, 800, 900));
    assert_eq!(region("rect=0.25;0.25;0.5;0.5"), (400, 225, 800, 450));
    assert_eq!(region("rect=0.9999;0.9999;0.0001;0.0001"), (1600 - 1, 900 - 1, 1, 1));
    check("rect=0.5;0;0.5;1,w=400", WIDE, (400, 450));

    for ops in ["rect=1600;0;10;10", "rect=0;900;10;10", "rect=1.0;0.0;0.5;0.5"] {
        let error = geometry(WIDE, &transform(ops), LIMIT_PX).unwrap_err();
        assert_eq!(error, GeometryError::RectOutside { source_size: WIDE }, "{ops}");
    }
}

#[test]
fn what_would_be_too_large_is_refused() {
    let refused = |source: Size, ops: &str, limit_px: u32| {
        let error = geometry(source, &transform(ops), limit_px).unwrap_err();
        assert!(matches!(error, GeometryError::OutputTooLarge { .. }), "{ops} of {source}: {error}");
    };
    refused(WIDE, "w=1001", 1000);
    refused(Size::new(1, 1000), "w=400,fit=contain", LIMIT_PX);
    refused(WIDE, "w=8000,h=8000,fit=cover,rotate=45", LIMIT_PX);
    // What is cut out is small; what it would be cut from is not.
    refused(Size::new(20_000, 1), "w=8000,h=8000,fit=cover", LIMIT_PX);
    refused(Size::new(20_000, 2000), "w=8000,h=8000,fit=cover,g=auto", LIMIT_PX);
}

#[test]
fn rendered_sizes_are_the_planned_ones() {
    let source = images::png::rgb(&images::places(160, 90), &images::png::Extras::default());
    for fit in ["scale-down", "contain", "cover", "crop", "pad", "squeeze", "scale-up"] {
        for frame in
            ["w=64,h=48", "w=48,h=64", "w=300,h=200", "w=161,h=20", "w=37", "h=333", "w=1", "w=64,h=48,rotate=33"]
        {
            let ops = format!("{frame},fit={fit}");
            let planned = geometry(Size::new(160, 90), &transform(&ops), LIMIT_PX).unwrap().output;
            let picture = support::pixels(&source, &ops);
            assert_eq!((picture.width(), picture.height()), (planned.width, planned.height), "{ops}");
        }
    }
}

#[test]
fn pictures_of_one_pixel_a_side_are_rendered() {
    for (width, height) in [(1, 1), (1, 700), (700, 1), (2, 3)] {
        let source = images::jpeg::oriented(&images::places(width, height), 6);
        for fit in ["scale-down", "contain", "cover", "crop", "pad", "squeeze", "scale-up"] {
            for rest in
                ["g=north-east", "g=auto", "g=entropy", "rotate=90", "rotate=45", "rect=0.5;0.5;0.5;0.5", "flip=hv"]
            {
                let ops = format!("w=9,h=5,fit={fit},{rest}");
                let planned = geometry(Size::new(width, height), &transform(&ops), LIMIT_PX).unwrap().output;
                let picture = support::pixels(&source, &ops);
                assert_eq!(
                    (picture.width(), picture.height()),
                    (planned.width, planned.height),
                    "{ops} of {width}×{height}"
                );
            }
        }
    }
}

fn fits() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["scale-down", "contain", "cover", "crop", "pad", "squeeze", "scale-up"])
}

proptest! {
    /// Whatever is asked, the plan holds together: cuts lie inside, results respect limit and box.
    #[test]
    fn plans_are_consistent(
        width in 1_u32..12_000, height in 1_u32..12_000, w in 1_u32..8192, h in 1_u32..8192, fit in fits(),
        gravity in prop::sample::select(vec!["center", "south-east", "0.13x0.97", "auto"]),
        angle in 0_u32..360,
    ) {
        let source = Size::new(width, height);
        let ops = format!("w={w},h={h},fit={fit},g={gravity},rotate={angle}");
        let Ok(plan) = geometry(source, &transform(&ops), LIMIT_PX) else { return Ok(()) };
        prop_assert!(plan.output.width <= LIMIT_PX && plan.output.height <= LIMIT_PX);
        prop_assert!(plan.output.width > 0 && plan.output.height > 0);
        match plan.frame {
            Frame::Keep => prop_assert_eq!(plan.framed, plan.resized),
            Frame::Crop(region) => {
                prop_assert_eq!(region.size, plan.framed);
                prop_assert!(region.x + region.size.width <= plan.resized.width);
                prop_assert!(region.y + region.size.height <= plan.resized.height);
            }
            Frame::ContentCrop(size) => {
                prop_assert!(size.width <= plan.resized.width && size.height <= plan.resized.height);
            }
            Frame::Pad { canvas, x, y } => {
                prop_assert!(x + plan.resized.width <= canvas.width);
                prop_assert!(y + plan.resized.height <= canvas.height);
            }
        }
        if ["scale-down", "crop"].contains(&fit) {
            prop_assert!(plan.resized.width <= width && plan.resized.height <= height, "enlarged");
        }
        if ["cover", "squeeze", "pad"].contains(&fit) && angle == 0 {
            prop_assert_eq!(plan.output, Size::new(w, h));
        }
    }
}
