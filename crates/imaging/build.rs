//! Compiles the reader of JPEGs, beside the libjpeg that libvips is linked with.

fn main() {
    println!("cargo::rerun-if-changed=src/rows/jpeg.c");
    cc::Build::new().file("src/rows/jpeg.c").compile("calotype_jpeg");
    println!("cargo::rustc-link-lib=jpeg");
}
